"""Bringing accounts online again that a restore has paused."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_cli.backup import Refused
from mesh_client import Client, MeshCallError
from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix, encode
from sessionmesh.v1 import account_pb2

_AT_ONCE = 16
_CONNECT_SECONDS = 10.0


async def held_accounts(url: str) -> list[UUID]:
    """Accounts that a restore has paused and nobody has released. Raises `Refused`."""
    return [row["account"] for row in await _fetch(url, _HELD, RecordKind.RESTORED)]


async def release(
    client: Client, url: str, accounts: Collection[UUID]
) -> Sequence[tuple[str, MeshCallError]]:
    """Has these accounts connect; nodes admit them in their own time. Returns those that the mesh refused,
    which stay paused.
    """
    refused: list[tuple[str, MeshCallError]] = []
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(account: UUID) -> None:
        name = encode(Prefix.ACCOUNT, account)
        request = account_pb2.UpdateAccountRequest(
            account_id=name, account=account_pb2.Account(desired_state=account_pb2.DESIRED_STATE_ONLINE)
        )
        request.update_mask.paths.append("desired_state")
        async with room:
            try:
                await client.accounts.UpdateAccount(request)
            except MeshCallError as error:
                refused.append((name, error))
                return
        await _fetch(url, _RELEASED, RecordKind.RESTORED, account)

    await asyncio.gather(*map(one, accounts))
    return refused


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
_RELEASED = "DELETE FROM account_record WHERE account = $2 AND kind = $1"
"""Once it is online: whoever pauses it later means it."""
