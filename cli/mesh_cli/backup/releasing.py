"""Bringing accounts online again that a restore has paused."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_cli.backup import Refused
from mesh_client import Client, MeshCallError
from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix, encode
from mesh_core.validation import etag
from sessionmesh.v1 import account_pb2

_AT_ONCE = 16
_CONNECT_SECONDS = 10.0


async def held_accounts(url: str) -> list[UUID]:
    """Accounts that a restore has paused and nobody has released. Raises `Refused`."""
    return [row["account"] for row in await _fetch(url, _HELD, RecordKind.RESTORED)]


@dataclass(frozen=True, slots=True)
class Released:
    """How many accounts connect now, and those that the mesh refused, which stay paused."""

    online: int
    refused: Sequence[tuple[str, MeshCallError]]


async def release(client: Client, url: str, accounts: Collection[UUID]) -> Released:
    """Has these accounts connect; nodes admit them in their own time. Whatever somebody says meanwhile of
    whether an account is to be online stands.
    """
    refused: list[tuple[str, MeshCallError]] = []
    online = 0
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(account: UUID) -> None:
        nonlocal online
        async with room:
            while held := await _fetch(url, _VERSION, RecordKind.RESTORED, account):
                try:
                    await client.accounts.UpdateAccount(_going_online(account, held[0]["version"]))
                    online += 1
                except MeshCallError as error:
                    if error.reason == "ETAG_MISMATCH":  # it was changed since
                        continue
                    refused.append((encode(Prefix.ACCOUNT, account), error))
                return

    await asyncio.gather(*map(one, accounts))
    return Released(online, refused)


def _going_online(account: UUID, version: int) -> account_pb2.UpdateAccountRequest:
    changed = account_pb2.Account(desired_state=account_pb2.DESIRED_STATE_ONLINE, etag=etag(version))
    request = account_pb2.UpdateAccountRequest(account_id=encode(Prefix.ACCOUNT, account), account=changed)
    request.update_mask.paths.append("desired_state")
    return request


async def _fetch(url: str, query: str, *arguments: object) -> list[asyncpg.Record]:
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_SECONDS)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise Refused(
            f"MESH_DATABASE_URL: the database cannot be used: {error or type(error).__name__}"
        ) from None


_HELD = """SELECT account FROM account_record r JOIN account a ON a.id = r.account
  WHERE r.kind = $1 AND a.delete_time IS NULL ORDER BY account"""
_VERSION = """SELECT a.version FROM account_record r JOIN account a ON a.id = r.account
  WHERE r.kind = $1 AND r.account = $2 AND a.delete_time IS NULL"""
