"""Writes what calls were noted, behind their answers: a call's record is in the database some hundredths of a
second after its end. What a process has not written yet when it is killed is lost, and so is what comes while
Postgres is away for so long that there is no room any more, which the metric counts. A tenant takes at most
half of the room that others leave.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from itertools import islice

import asyncpg
import structlog

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.ids import Prefix
from mesh_core.metrics import counters
from mesh_core.rpc.audit.calls import AuditRecord, uuid_of
from mesh_core.signal import Signal

logger = structlog.get_logger(__name__)

DROPPED = counters(
    "mesh_audit_dropped_total",
    "Calls that were not noted.",
    answers="Is the audit log complete?",
    reason=["refused too often", "no room", "refused by the database"],
)

ROOM = 10_000
"""Records that may wait for the database."""
BATCH = 500
REFUSED_PER_MINUTE = 60
"""Refused calls of one key, or of one address without a key, that one process notes in a minute."""
REFUSED_STRANGERS_PER_MINUTE = 300
"""Of all addresses without a key together."""


class AuditLog:
    """`run` must run in the process whose server has it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._waiting: deque[AuditRecord] = deque()
        self._shares: Counter[object] = Counter()
        self._more = Signal()
        self._refused: Counter[str] = Counter()
        self._minute = 0
        self._backoff = Backoff(0.1, 5.0)

    def add(self, record: AuditRecord) -> None:
        """Note a call; nothing happens when there is no room, or its caller was refused too often."""
        if record.code and not self._counts(record):
            DROPPED.labels("refused too often").inc()
        elif self._shares[_whose(record)] >= ROOM - len(self._waiting):
            DROPPED.labels("no room").inc()
        else:
            self._waiting.append(record)
            self._shares[_whose(record)] += 1
            self._more.notify()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._more.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            while self._waiting:
                if await self._write_some():
                    self._backoff.reset()
                else:
                    await asyncio.sleep(self._backoff.next())

    async def close(self) -> None:
        """Write what is left, if the database takes it now; once `run` has ended."""
        while self._waiting and await self._write_some():
            pass

    async def _write_some(self) -> bool:
        batch = list(islice(self._waiting, BATCH))
        try:
            await self._pool.execute(_INSERT, *_columns(batch))
        except UNAVAILABLE as error:
            logger.warning("the audit log waits for Postgres", waiting=len(self._waiting), error=repr(error))
            return False
        except asyncpg.PostgresError as error:
            logger.exception("calls cannot be noted", calls=len(batch), error=repr(error))
            DROPPED.labels("refused by the database").inc(len(batch))
        for _ in batch:
            self._waiting.popleft()
        self._shares -= Counter(map(_whose, batch))
        return True

    def _counts(self, record: AuditRecord) -> bool:
        minute = int(asyncio.get_running_loop().time() // 60)
        if minute != self._minute:
            self._minute = minute
            self._refused.clear()
        if record.key_id:
            who, most = record.key_id, REFUSED_PER_MINUTE
        else:
            self._refused[""] += 1
            if self._refused[""] > REFUSED_STRANGERS_PER_MINUTE:
                return False
            who, most = f"from {record.source}", REFUSED_PER_MINUTE
        self._refused[who] += 1
        return self._refused[who] <= most


def _whose(record: AuditRecord) -> object:
    """Of whose share of the room a record takes a place."""
    return record.tenant or record.key_id


def _columns(batch: list[AuditRecord]) -> list[list[object]]:
    keys = [uuid_of(Prefix.KEY, record.key_id) for record in batch]
    return [keys, *([getattr(record, name) for record in batch] for name in _COLUMNS)]


_GATHER_SECONDS = 0.02
_COLUMNS = (
    "id",
    "tenant",
    "account",
    "key_id",
    "method",
    "resource",
    "changed_fields",
    "code",
    "status",
    "source",
    "request_id",
    "user_agent",
    "traceparent",
)
_INSERT = """INSERT INTO audit_event (id, tenant, account, key_id, key_name, method, resource,
    changed_fields, code, status, source, request_id, user_agent, traceparent)
  SELECT r.id, coalesce(r.tenant, a.tenant), r.account, r.key_id, coalesce(k.name, ''), r.method, r.resource,
    r.changed_fields, r.code, r.status, r.source, r.request_id, r.user_agent, r.traceparent
  FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
      $9::smallint[], $10::bytea[], $11::text[], $12::text[], $13::text[], $14::text[])
    AS r(key, id, tenant, account, key_id, method, resource, changed_fields, code, status, source, request_id,
      user_agent, traceparent)
  LEFT JOIN account a ON a.id = r.account
  LEFT JOIN api_key k ON k.id = r.key
  ON CONFLICT DO NOTHING"""
