"""What the node reads from Postgres. It writes through the journal only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncpg import InterfaceError, Pool, PostgresError, Record
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.session.account import AccountRow, SessionRow
from mesh_session_node.session.limits import SendLimits
from sessionmesh.v1 import account_pb2

UNAVAILABLE: tuple[type[Exception], ...] = (PostgresError, InterfaceError, OSError, TimeoutError)
"""Postgres did not answer, or not in time: ask again later."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One account with its session."""

    account: AccountRow
    session: SessionRow


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message in the outbox; `content` is the stored request. `due` is seconds since the epoch."""

    account: UUID
    uuid: UUID
    chat: str
    content: bytes
    traceparent: str
    due: float


@dataclass(frozen=True, slots=True)
class WaitingFetch:
    """Media to fetch; due at seconds since the epoch."""

    account: UUID
    message: UUID
    blob: bytes
    attempts: int
    due: float


class Queries:
    """Reads, many accounts at a time."""

    def __init__(self, pool: Pool, limits: SendLimits) -> None:
        self._pool = pool
        self._limits = limits

    async def warm_up(self) -> None:
        """Have connections at hand on which the reads of a takeover are planned: nobody's first accounts are
        to wait for that. What is idle for some minutes is closed, so repeat it.
        """
        await asyncio.gather(*(self._read_nothing() for _ in range(_ABREAST)))

    async def _read_nothing(self) -> None:
        async with self._pool.acquire() as connection:
            for query in (_ACCOUNTS + _OF_SHARDS, _OUTBOX + _OUTBOX_ORDER, _FETCHES):
                await connection.fetch(query, [])

    async def shards(self, shards: Collection[int]) -> list[Loaded]:
        """Every account of these shards."""
        return [self._loaded(row) for row in await self._pool.fetch(_ACCOUNTS + _OF_SHARDS, [*shards])]

    async def accounts(self, accounts: Collection[UUID]) -> list[Loaded]:
        """These accounts, as far as they exist."""
        return [
            self._loaded(row)
            for row in await self._pool.fetch(_ACCOUNTS + "WHERE a.id = ANY ($1)", [*accounts])
        ]

    async def outbox(
        self, shards: Collection[int], accounts: Collection[UUID] | None = None
    ) -> list[WaitingMessage]:
        """What is to be sent in these shards, or by these accounts of them; in order of acceptance."""
        rows = await self._fetch_of(_OUTBOX, _OUTBOX_ORDER, "o.account", shards, accounts)
        return [WaitingMessage(*row) for row in rows]

    async def fetches(
        self, shards: Collection[int], accounts: Collection[UUID] | None = None
    ) -> list[WaitingFetch]:
        """Media to fetch in these shards, or for these accounts of them."""
        rows = await self._fetch_of(_FETCHES, "", "account", shards, accounts)
        return [WaitingFetch(*row) for row in rows]

    async def _fetch_of(
        self,
        query: str,
        order: str,
        column: str,
        shards: Collection[int],
        accounts: Collection[UUID] | None,
    ) -> list[Record]:
        if accounts is None:
            return await self._pool.fetch(query + order, [*shards])
        return await self._pool.fetch(f"{query} AND {column} = ANY ($2) {order}", [*shards], [*accounts])

    async def sent_lately(self, accounts: Sequence[UUID]) -> list[tuple[UUID, float, int]]:
        """What these accounts sent in the last day: (account, age in seconds, messages), in parts of 5
        minutes.
        """
        return [(row[0], float(row[1]), row[2]) for row in await self._pool.fetch(_SENT, [*accounts])]

    async def message(self, account: UUID, message: UUID) -> Record | None:
        """One message's row."""
        return await self._pool.fetchrow(_MESSAGE, account, message)

    async def messages(self, account: UUID, messages: Collection[UUID]) -> list[Record]:
        """Messages' rows, as far as they exist."""
        return await self._pool.fetch(_MESSAGES, account, [*messages])

    async def by_network_id(self, account: UUID, network_id: str) -> UUID | None:
        """Our id of an inbound message."""
        found: UUID | None = await self._pool.fetchval(
            "SELECT message FROM network_message WHERE account = $1 AND network_id = $2", account, network_id
        )
        return found

    async def receipts(self, message: UUID) -> list[Record]:
        """Each member's receipt, in groups."""
        return await self._pool.fetch(
            "SELECT member, status, time FROM message_receipt WHERE message = $1 ORDER BY member", message
        )

    async def fetch_rows(self, query: str, *arguments: Any) -> list[Record]:
        """A page of a listing."""
        return await self._pool.fetch(query, *arguments)

    def _loaded(self, row: Record) -> Loaded:
        account = AccountRow(
            uuid=row["id"],
            tenant=row["tenant"],
            shard=row["shard"],
            driver=row["driver"],
            phone=row["phone"],
            labels=json.loads(row["labels"]),
            limits=self._limits_of(json.loads(row["settings"])),
            online=row["desired_state"] != account_pb2.DESIRED_STATE_PAUSED,
            deleted=row["delete_time"] is not None,
            version=row["version"],
        )
        if row["state"] is None:
            return Loaded(account, SessionRow(credential=row["blob"]))
        session = SessionRow(
            state=row["state"],
            cause=row["cause"],
            detail=row["detail"],
            phone=row["session_phone"],
            network_user_id=row["network_user_id"],
            push_name=row["push_name"],
            sent=row["sent"],
            received=row["received"],
            failed=row["failed"],
            connects=row["connects"],
            settings=row["session_settings"],
            credential=row["blob"],
            update_time=row["update_time"],
        )
        return Loaded(account, session)

    def _limits_of(self, settings: Mapping[str, Any]) -> SendLimits:
        given = settings.get("send_limits", {})
        default = self._limits
        return SendLimits(
            per_minute=given.get("per_minute") or default.per_minute,
            per_hour=given.get("per_hour") or default.per_hour,
            per_day=given.get("per_day") or default.per_day,
            outbox=given.get("outbox") or default.outbox,
        )


_ABREAST = 4
_OF_SHARDS = "WHERE a.shard = ANY ($1)"
_ACCOUNTS = """
SELECT a.id, a.tenant, a.shard, a.driver, a.phone, a.labels, a.settings, a.desired_state, a.delete_time,
       a.version, s.state, s.cause, s.detail, s.phone AS session_phone, s.network_user_id, s.push_name,
       s.sent, s.received, s.failed, s.connects, s.settings AS session_settings, s.update_time, c.blob
FROM account a LEFT JOIN session s ON s.account = a.id LEFT JOIN credential c ON c.account = a.id
"""
_OUTBOX = """
SELECT o.account, o.message, m.chat, m.content, m.traceparent, extract(epoch FROM o.due_at)::float8
FROM outbox o JOIN message m ON m.account = o.account AND m.id = o.message
WHERE o.shard = ANY ($1)
"""
_OUTBOX_ORDER = "ORDER BY o.message"
_FETCHES = """
SELECT account, message, blob, attempts, extract(epoch FROM due_at)::float8
FROM media_fetch WHERE shard = ANY ($1)
"""
_SENT = """
SELECT m.account, extract(epoch FROM now() - max(m.network_time))::float8, count(*)::int
FROM unnest($1::uuid[]) AS a(id) JOIN message m ON m.account = a.id
WHERE m.id >= uuid_at(now() - interval '1 day') AND m.direction = 1
  AND m.network_time > now() - interval '1 day'
GROUP BY m.account, date_bin('5 minutes', m.network_time, 'epoch')
"""
_COLUMNS = """id, account, direction, status, chat, network_id, content, traceparent, failure, failure_detail,
  update_time, network_time"""
_MESSAGE = f"SELECT {_COLUMNS} FROM message WHERE account = $1 AND id = $2"  # noqa: S608 - constants
_MESSAGES = f"SELECT {_COLUMNS} FROM message WHERE account = $1 AND id = ANY ($2)"  # noqa: S608 - constants
MESSAGE_COLUMNS = _COLUMNS
