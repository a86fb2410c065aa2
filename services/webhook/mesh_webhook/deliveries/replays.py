"""ReplayEvents: the events of a time range are delivered to an endpoint again, by any process of the service.

In steps: some events are looked at, in their order, and those of the tenant that the endpoint wants become
pending again, or for the first time. Claims take them after everything else, and only some of an endpoint's
wait at a time: so what is new is not delayed, and a cancelled job leaves little.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.requests import Method
from mesh_core.errors import FailedPrecondition, InvalidField, NotFound, ResourceExhausted
from mesh_core.events import EventReader, StoredEvent
from mesh_core.events.cursor import Cursor
from mesh_core.events.reader import SLACK, place_before
from mesh_core.ids import Prefix
from mesh_core.jobs import NewJob, Step, SteppedWorker, Total, store
from mesh_webhook.deliveries.completions import UNSTORABLE
from mesh_webhook.deliveries.parts import MAX_BYTES, MAX_EVENTS, SKIPPED, storable_traceparent
from mesh_webhook.endpoints.endpoint import COLUMNS, Endpoint
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import event_body, event_message
from sessionmesh.v1 import job_pb2, webhook_pb2

logger = structlog.get_logger(__name__)

MOST_REPLAYS = 20
"""Of a tenant that have not ended."""
MOST_WAITING = 500
"""Replayed deliveries of an endpoint that wait at a time, but for those of one step."""
LOOKED_AT = 2000
"""Events that a step looks at, those of others too."""
RETRY_SECONDS = 60.0


class Changed(Exception):
    """An event says something else, or is gone, since it was read: a person was erased."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of the endpoint's: committed from `start` to before `end`, of these types and families,
    and with `failed_only` those whose delivery has failed.
    """

    start: datetime
    end: datetime
    event_types: list[str]
    failed_only: bool

    def detail(self, until: Cursor) -> str:
        """As it is kept with the job; events behind `until` came after it."""
        return json.dumps(
            {
                "start": self.start.isoformat(),
                "end": self.end.isoformat(),
                "event_types": self.event_types,
                "failed_only": self.failed_only,
                "until": [until.xid, until.seq],
            }
        )

    @classmethod
    def of_detail(cls, detail: str) -> tuple[Wanted, tuple[int, int]]:
        """What `detail` made it."""
        kept = json.loads(detail)
        start, end = datetime.fromisoformat(kept["start"]), datetime.fromisoformat(kept["end"])
        xid, seq = kept["until"]
        return cls(start, end, kept["event_types"], kept["failed_only"]), (xid, seq)


class Replays(SteppedWorker):
    """Begins them, and does their work."""

    kind = job_pb2.JOB_KIND_REPLAY_EVENTS

    def __init__(self, database: Database, reader: EventReader) -> None:
        super().__init__(database)
        self._reader = reader

    async def begin(
        self,
        endpoint: Endpoint,
        wanted: Wanted,
        request_id: str,
        digest: bytes,
        *,
        caller: UUID | None,
        dry_run: bool,
    ) -> asyncpg.Record:
        """The job's row. What is committed from now on is not replayed.

        Raises `InvalidField`, `FailedPrecondition` ENDPOINT_DISABLED, `AlreadyExists`, and
        `ResourceExhausted` when the tenant has as many as it may.
        """
        now = datetime.now(UTC)
        if wanted.start >= now:
            raise InvalidField("start_time", "must be in the past")
        if wanted.start >= wanted.end:
            raise InvalidField("end_time", "must be later than start_time")
        detail = wanted.detail(await self._reader.latest())
        new = NewJob(ids.new_uuid(), self.kind, endpoint.tenant, endpoint.public_id, detail, dry_run)
        async with self._database.callers.of(caller).transaction() as connection:
            first = await store.repeated(connection, Method.REPLAY_EVENTS, request_id, digest, new)
            if first is not None:
                return first
            _check_enabled(endpoint)
            if await store.count_unfinished(connection, self.kind, endpoint.tenant) >= MOST_REPLAYS:
                raise ResourceExhausted(
                    f"the tenant has {MOST_REPLAYS} replays that have not ended",
                    "RATE_LIMITED",
                    quota="replays of events",
                    retry_after=RETRY_SECONDS,
                )
            row = await store.insert(connection, new)
        self.wake()
        return row

    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        """Unknown: who wants an event is found out when it is read."""
        return Total()

    async def step(self, connection: asyncpg.Connection, row: asyncpg.Record, position: str) -> Step:
        began = time.monotonic()
        wanted, until = Wanted.of_detail(row["detail"])
        endpoint = await self._endpoint(connection, row)
        if not row["dry_run"]:
            _check_enabled(endpoint)
            if await connection.fetchval(_WAITING, endpoint.id, MOST_WAITING) >= MOST_WAITING:
                return Step(position, waits=True)
        xid, seq = json.loads(position) if position else await place_before(connection, wanted.start)
        rows = await connection.fetch(
            _SCAN, xid, seq, *until, LOOKED_AT, endpoint.tenant, wanted.start, wanted.end
        )
        if not rows:
            return Step(None)
        both = (endpoint.filter(), EventFilter.of(wanted.event_types))
        candidates = [
            one
            for one in rows
            if one["id"] is not None and all(each.matches(one["type"], one["account"]) for each in both)
        ]
        taken = _first(candidates)
        events = await self._read(connection, endpoint, taken)
        if row["dry_run"]:
            done = await connection.fetchval(
                _COUNT, endpoint.id, [event.id for event in events], wanted.failed_only
            )
            failed = 0
        else:
            done, failed = await self._write(connection, row["id"], endpoint, wanted, events)
        await asyncio.sleep(
            time.monotonic() - began
        )  # as much rest as work: deliveries need the database, too
        if len(taken) < len(candidates):
            return Step(json.dumps([taken[-1]["position"], taken[-1]["place"]]), done, failed)
        over = rows[0]["looked_at"] < LOOKED_AT or rows[0]["last_time"] - SLACK > wanted.end
        last = json.dumps([rows[0]["last_xid"], rows[0]["last_seq"]])
        return Step(None if over else last, done, failed)

    @staticmethod
    async def _endpoint(connection: asyncpg.Connection, row: asyncpg.Record) -> Endpoint:
        found = await connection.fetchrow(
            _ENDPOINT, ids.decode(Prefix.ENDPOINT, row["subject"], "subject"), row["tenant"]
        )
        if found is None:
            raise NotFound("endpoint", row["subject"])
        return Endpoint.of(found)

    async def _read(
        self, connection: asyncpg.Connection, endpoint: Endpoint, rows: list[asyncpg.Record]
    ) -> list[StoredEvent]:
        """The events of these rows whose labels the endpoint wants."""
        bodies = await connection.fetch(
            BODIES,
            [one["position"] for one in rows],
            [one["place"] for one in rows],
            [one["id"] for one in rows],
        )
        labels = endpoint.filter()
        events = []
        for one in bodies:
            cursor = Cursor(self._reader.generation, one["position"], one["place"])
            stored = StoredEvent(
                cursor, one["id"], one["tenant"], one["account"], one["type"], one["body"], one["commit_time"]
            )
            if labels.matches_labels(event_message(stored).labels):
                events.append(stored)
        return events

    async def _write(
        self,
        connection: asyncpg.Connection,
        job: UUID,
        endpoint: Endpoint,
        wanted: Wanted,
        events: list[StoredEvent],
    ) -> tuple[int, int]:
        """How many events were made pending, and how many of these cannot be; what the database refuses stops
        nothing behind it.
        """
        if not events:
            return 0, 0
        messages = [event_message(event) for event in events]
        try:
            made = await connection.fetchval(
                _REPLAY,
                job,
                endpoint.id,
                endpoint.tenant,
                wanted.failed_only,
                [ids.new_uuid() for _ in events],
                [event.id for event in events],
                [event.cursor.xid for event in events],
                [event.cursor.seq for event in events],
                [len(event.body) for event in events],
                [event.account if event.account.int else None for event in events],
                [event.type for event in events],
                [event_body(event, message) for event, message in zip(events, messages, strict=True)],
                [storable_traceparent(message) for message in messages],
            )
        except UNSTORABLE:
            if len(events) == 1:
                SKIPPED.inc()
                logger.exception("an event cannot be replayed, skipped", id=str(events[0].id))
                return 1, 1
            middle = len(events) // 2
            halves = [
                await self._write(connection, job, endpoint, wanted, half)
                for half in (events[:middle], events[middle:])
            ]
            return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]
        if made is None:
            raise Changed
        return made, 0


def _check_enabled(endpoint: Endpoint) -> None:
    if endpoint.state == webhook_pb2.ENDPOINT_STATE_DISABLED:
        raise FailedPrecondition("the endpoint is disabled", "ENDPOINT_DISABLED")


def _first(rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
    """So many of them as one transaction may write, at least one."""
    taken: list[asyncpg.Record] = []
    size = 0
    for row in rows[:MAX_EVENTS]:
        size += row["size"]
        if taken and size > MAX_BYTES:
            break
        taken.append(row)
    return taken


_ENDPOINT = f"SELECT {COLUMNS} FROM webhook_endpoint e WHERE e.id = $1 AND e.tenant = $2"  # noqa: S608 - constants
_WAITING = """SELECT count(*) FROM (SELECT FROM webhook_delivery
  WHERE endpoint = $1 AND state = 1 AND replay IS NOT NULL LIMIT $2) AS w"""
# Without their bodies, which are elsewhere where they are large.
SCANNED = """SELECT xid, seq, id, tenant, account, type, commit_time, octet_length(body) AS size FROM event
  WHERE (xid, seq) > ($1::xid8, $2) AND (xid, seq) <= ($3::xid8, $4) ORDER BY xid, seq LIMIT $5"""
_SCAN = f"""WITH scanned AS MATERIALIZED ({SCANNED}),
  last AS (SELECT xid, seq, commit_time FROM scanned ORDER BY xid DESC, seq DESC LIMIT 1)
  SELECT l.xid AS last_xid, l.seq AS last_seq, l.commit_time AS last_time,
    (SELECT count(*) FROM scanned) AS looked_at,
    s.xid AS position, s.seq AS place, s.id, s.account, s.type, s.size
  FROM last l LEFT JOIN scanned s ON s.tenant = $6 AND s.commit_time >= $7 AND s.commit_time < $8
  ORDER BY s.xid, s.seq"""  # noqa: S608 - constants
BODIES = """SELECT k.xid AS position, k.seq AS place, e.*
  FROM unnest($1::xid8[], $2::int[], $3::uuid[]) WITH ORDINALITY AS k(xid, seq, id, number)
  CROSS JOIN LATERAL (SELECT v.id, v.tenant, v.account, v.type, v.body, v.commit_time FROM event v
    WHERE v.xid = k.xid AND v.seq = k.seq AND v.id = k.id LIMIT 1) AS e
  ORDER BY k.number"""
_COUNT = """SELECT count(*) FROM unnest($2::uuid[]) AS e(id)
  WHERE CASE coalesce((SELECT d.state FROM webhook_delivery d WHERE d.endpoint = $1 AND d.event = e.id), 0)
    WHEN 1 THEN false WHEN 3 THEN true ELSE NOT $3::boolean END"""
_REPLAY = "SELECT webhook_replay($1, $2, $3, $4, $5, $6, $7::xid8[], $8, $9, $10, $11, $12, $13)"
