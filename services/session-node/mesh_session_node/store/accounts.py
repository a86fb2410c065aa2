"""Accounts as Postgres has them: desired state, session, and what they must still send and fetch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import structlog
from asyncpg import Pool, Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import RecordKind
from mesh_core.ids import new_uuid
from sessionmesh.v1 import account_pb2, session_pb2

logger = structlog.get_logger(__name__)
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class SendLimits:
    """Messages that an account may send in any minute, hour and day, and messages that may wait."""

    per_minute: int
    per_hour: int
    per_day: int
    outbox: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account's desired state, which the router writes."""

    uuid: UUID
    tenant: UUID
    shard: int
    driver: str
    phone: str
    labels: Mapping[str, str]
    limits: SendLimits
    online: bool
    """Whether the account should be connected."""
    deleted: bool
    version: int
    """Every update raises it: of two rows the one with the higher version is the later one."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as its last owner stored it."""

    state: session_pb2.SessionState.ValueType = session_pb2.SESSION_STATE_NEW
    cause: session_pb2.SessionCause.ValueType = session_pb2.SESSION_CAUSE_UNSPECIFIED
    detail: str = ""
    phone: str = ""
    network_user_id: str = ""
    push_name: str = ""
    hidden_id: str = ""
    restrictions: tuple[session_pb2.Restriction, ...] = ()
    last_inbound_time: datetime | None = None
    """When the last message came in; None: never."""
    sent: int = 0
    received: int = 0
    failed: int = 0
    connects: int = 0
    settings: bytes = b""
    """A serialised sessionmesh.internal.v1.StoredSettings."""
    credential: bytes | None = field(default=None, repr=False)
    """The driver's state, sealed."""
    credential_epoch: int = 0
    """Of the owner that stored it."""
    update_time: datetime | None = None
    """None: the account never ran."""


NO_SESSION = SessionRow()


@dataclass(frozen=True, slots=True)
class StoredAccount:
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
    epoch: int
    """Of the owner that stored it."""


@dataclass(frozen=True, slots=True)
class WaitingFetch:
    """Media to fetch; `due` is seconds since the epoch."""

    account: UUID
    message: UUID
    blob: bytes
    attempts: int
    due: float


class AccountStore:
    """Reads many accounts at a time. `limits` are for accounts that have none of their own.

    Everything here raises what `mesh_core.database.UNAVAILABLE` names.
    """

    def __init__(self, pool: Pool, limits: SendLimits) -> None:
        self._pool = pool
        self._limits = limits

    async def warm_up(self) -> None:
        """Open connections and prepare the statements of a takeover on them, so that the first accounts do
        not wait for that. Idle connections are closed after some minutes, so repeat it.
        """
        await asyncio.gather(*(self._read_nothing() for _ in range(_CONNECTIONS)))

    async def _read_nothing(self) -> None:
        async with self._pool.acquire() as connection:
            for query in (_ACCOUNTS + _OF_SHARDS, _OUTBOX + _OUTBOX_ORDER, _FETCHES):
                await connection.fetch(query, [])
            await connection.fetch(_NEWER, [], new_uuid())

    async def shards(self, shards: Collection[int]) -> list[StoredAccount]:
        """Every account of these shards."""
        return [self._stored(row) for row in await self._pool.fetch(_ACCOUNTS + _OF_SHARDS, [*shards])]

    async def accounts(self, accounts: Collection[UUID]) -> list[StoredAccount]:
        """These accounts, without those that do not exist."""
        return [
            self._stored(row)
            for row in await self._pool.fetch(_ACCOUNTS + "WHERE a.id = ANY ($1)", [*accounts])
        ]

    async def outbox(
        self, shards: Collection[int], accounts: Collection[UUID] | None = None
    ) -> list[WaitingMessage]:
        """The messages that wait in these shards, or of these accounts in them, in order of acceptance."""
        rows = await self._fetch_of(_OUTBOX, _OUTBOX_ORDER, "o.account", shards, accounts)
        return [WaitingMessage(*row) for row in rows]

    async def fetches(
        self, shards: Collection[int], accounts: Collection[UUID] | None = None
    ) -> list[WaitingFetch]:
        """Media to fetch in these shards, or for these accounts of them."""
        rows = await self._fetch_of(_FETCHES, "", "account", shards, accounts)
        return [WaitingFetch(*row) for row in rows]

    async def newer_than(self, message: UUID, shards: Collection[int]) -> UUID | None:
        """The last message of the accounts of these shards, where its id is behind this one: a former owner's
        clock was ahead.
        """
        found: UUID | None = await self._pool.fetchval(_NEWER, [*shards], message)
        return found

    async def sent_lately(self, accounts: Sequence[UUID]) -> list[tuple[UUID, float, int]]:
        """What these accounts sent in the last day: (account, age in seconds, messages), in parts of 5
        minutes.
        """
        return [(row[0], float(row[1]), row[2]) for row in await self._pool.fetch(_SENT, [*accounts])]

    async def risks(self, accounts: Sequence[UUID]) -> dict[UUID, bytes]:
        """What is stored of how the network may judge these accounts."""
        rows = await self._pool.fetch(_RISKS, [*accounts], RecordKind.RISK)
        return {row["account"]: row["value"] for row in rows}

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

    def _stored(self, row: Record) -> StoredAccount:
        account = AccountRow(
            uuid=row["id"],
            tenant=row["tenant"],
            shard=row["shard"],
            driver=row["driver"],
            phone=row["phone"],
            labels=_readable(row, "labels", json.loads, {}),
            limits=_readable(row, "settings", self._limits_of, self._limits),
            online=row["desired_state"] != account_pb2.DESIRED_STATE_PAUSED,
            deleted=row["delete_time"] is not None,
            version=row["version"],
        )
        if row["state"] is None:
            return StoredAccount(
                account, SessionRow(credential=row["blob"], credential_epoch=row["credential_epoch"] or 0)
            )
        session = SessionRow(
            state=row["state"],
            cause=row["cause"],
            detail=row["detail"],
            phone=row["session_phone"],
            network_user_id=row["network_user_id"],
            push_name=row["push_name"],
            hidden_id=row["hidden_id"],
            restrictions=_readable(row, "restrictions", _restrictions, ()),
            last_inbound_time=row["last_inbound_time"],
            sent=row["sent"],
            received=row["received"],
            failed=row["failed"],
            connects=row["connects"],
            settings=row["session_settings"],
            credential=row["blob"],
            credential_epoch=row["credential_epoch"] or 0,
            update_time=row["update_time"],
        )
        return StoredAccount(account, session)

    def _limits_of(self, settings: str) -> SendLimits:
        own = json.loads(settings).get("send_limits", {})
        default = self._limits
        return SendLimits(
            per_minute=own.get("per_minute", default.per_minute),
            per_hour=own.get("per_hour", default.per_hour),
            per_day=own.get("per_day", default.per_day),
            outbox=own.get("outbox", default.outbox),
        )


def _readable(row: Record, column: str, read: Callable[[Any], Read], otherwise: Read) -> Read:
    """What a column says; `otherwise` where that cannot be read: the account does without, and the query's
    other rows do not fail with it.
    """
    try:
        return read(row[column])
    except Exception:  # whatever one row holds, the other rows are read
        logger.exception("an account's row cannot be read", account=str(row["id"]), column=column)
        return otherwise


def _restrictions(stored: bytes) -> tuple[session_pb2.Restriction, ...]:
    return tuple(session_pb2.Session.FromString(stored).restrictions)


_CONNECTIONS = 4
_OF_SHARDS = "WHERE a.shard = ANY ($1)"
_ACCOUNTS = """
SELECT a.id, a.tenant, a.shard, a.driver, a.phone, a.labels, a.settings, a.desired_state, a.delete_time,
       a.version, s.state, s.cause, s.detail, s.phone AS session_phone, s.network_user_id, s.push_name,
       s.hidden_id, s.restrictions, s.last_inbound_time, s.sent, s.received, s.failed,
       s.connects, s.settings AS session_settings, s.update_time, c.blob,
       c.epoch AS credential_epoch
FROM account a LEFT JOIN session s ON s.account = a.id LEFT JOIN credential c ON c.account = a.id
"""
_OUTBOX = """
SELECT o.account, o.message, m.chat, m.content, m.traceparent, extract(epoch FROM o.due_at)::float8, m.epoch
FROM outbox o JOIN message m ON m.account = o.account AND m.id = o.message
WHERE o.shard = ANY ($1)
"""
_OUTBOX_ORDER = "ORDER BY o.message"
_FETCHES = """
SELECT account, message, blob, attempts, extract(epoch FROM due_at)::float8
FROM media_fetch WHERE shard = ANY ($1)
"""
_NEWER = """
SELECT m.id FROM account a CROSS JOIN LATERAL (
  SELECT id FROM message WHERE account = a.id AND id > $2 ORDER BY id DESC LIMIT 1) m
WHERE a.shard = ANY ($1) ORDER BY m.id DESC LIMIT 1
"""
_RISKS = "SELECT account, value FROM account_record WHERE account = ANY ($1) AND kind = $2"
_SENT = """
SELECT m.account, extract(epoch FROM now() - max(m.network_time))::float8, count(*)::int
FROM unnest($1::uuid[]) AS a(id) JOIN message m ON m.account = a.id
WHERE m.id >= uuid_at(now() - interval '1 day') AND m.origin = 1
  AND m.network_time > now() - interval '1 day'
GROUP BY m.account, date_bin('5 minutes', m.network_time, 'epoch')
"""
