"""Days of messages and events that are over are dropped whole, unless something in them is still needed.

Needed are a message that waits to be sent, media that are still to be fetched, and an event that the
webhooks' reader has not read while somebody has an endpoint. A day of messages that is held for a few of them
is emptied of all others. Named subscriptions that have not acknowledged a day expire before it goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import structlog

from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.partitions import MESSAGE_AND_EVENT, drop_partition, stored_days
from mesh_core.database.pool import AnyConnection
from mesh_core.events.expiry import expire_behind
from mesh_core.metrics import counter, counters
from mesh_router.retention.policy import READER_GRACE, Policy

logger = structlog.get_logger(__name__)

DROPPED = counters(
    "mesh_retention_dropped_days_total",
    "Days of a table that were dropped.",
    answers="Is old data deleted?",
    table=MESSAGE_AND_EVENT,
)
UNREAD = counter(
    "mesh_retention_unread_events_total",
    "Events dropped before the webhooks' reader had read them.",
    answers="Were events lost that webhooks should have had?",
)


@dataclass(frozen=True, slots=True)
class Held:
    """A day that is over and stands, and why: in words for people. `needed`: because of what is in it."""

    table: str
    day: date
    reason: str
    needed: bool


async def drop_old_days(connection: AnyConnection, policy: Policy, now: datetime) -> list[Held]:
    """Drops the days of messages and events that are over, oldest first; returns those that had to stay."""
    held = []
    for table in MESSAGE_AND_EVENT:
        for day in await stored_days(connection, table):
            if day >= policy.oldest_day(now):
                break
            try:
                reason = await _need(connection, table, day, policy, now)
                if reason is not None:
                    held.append(Held(table, day, reason, needed=True))
                    continue
                if table == "event":
                    await _expire_subscriptions(connection, day)
                if await drop_partition(connection, table, day):
                    DROPPED.labels(table).inc()
                    logger.info("a day was dropped", table=table, day=day.isoformat())
                else:
                    held.append(Held(table, day, "the table was busy", needed=False))
                    break
            except DATABASE_ERRORS as error:
                held.append(Held(table, day, f"it could not be dropped: {error!r}", needed=False))
    return held


async def _need(
    connection: AnyConnection, table: str, day: date, policy: Policy, now: datetime
) -> str | None:
    """Why the day must stay; None when it may go."""
    if table == "event":
        return await _unread(connection, day, policy, now)
    needed = await connection.fetchval(_NEEDED, *_times(day))
    if not needed:
        return None
    await _empty(connection, day)
    return f"{needed} of its messages wait to be sent, or for their media"


async def _unread(connection: AnyConnection, day: date, policy: Policy, now: datetime) -> str | None:
    last = await connection.fetchrow(_LAST_EVENT.format(_name("event", day)))
    if last is None:
        return None
    behind = await connection.fetchrow(_BEHIND, last["position"], last["place"])
    if behind is None or not await connection.fetchval("SELECT EXISTS (SELECT FROM webhook_endpoint)"):
        return None
    if _times(day)[1] > now - policy.longest - READER_GRACE:
        return "the webhooks have not read all of it"
    lost = await connection.fetchval(_UNREAD.format(_name("event", day)), behind["position"], behind["place"])
    UNREAD.inc(lost)
    logger.error(
        "alarm",
        alarm="reader_expired",
        subject=behind["name"],
        detail=f"{lost} events of {day.isoformat()} go unread, and get no delivery: it is days behind",
    )
    return None


async def _expire_subscriptions(connection: AnyConnection, day: date) -> None:
    """Those that have not acknowledged all of a day that is about to go."""
    last = await connection.fetchrow(_LAST_EVENT.format(_name("event", day)))
    if last is not None:
        await expire_behind(connection, last["position"], last["place"])


async def _empty(connection: AnyConnection, day: date) -> None:
    """Deletes all messages of a day but those that are needed, some pages at a time."""
    name = _name("message", day)
    pages = await connection.fetchval(
        "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::int", name
    )
    for page in range(0, pages, _PAGES):
        await connection.execute(_EMPTY.format(name), f"({page},0)", f"({page + _PAGES},0)")


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _times(day: date) -> tuple[datetime, datetime]:
    """Where the day begins and ends."""
    begin = datetime.combine(day, time(), UTC)
    return begin, begin + timedelta(days=1)


_PAGES = 500
_NEEDED = """SELECT count(*) FROM (
  SELECT message FROM outbox WHERE message >= uuid_at($1) AND message < uuid_at($2)
  UNION SELECT message FROM media_fetch WHERE message >= uuid_at($1) AND message < uuid_at($2)) AS needed"""
# Each row is looked up by its keys: a join would read all that waits once more for every few pages.
_EMPTY = """DELETE FROM {} AS m WHERE ctid >= $1::text::tid AND ctid < $2::text::tid
  AND (SELECT true FROM account a JOIN outbox o ON o.shard = a.shard AND o.message = m.id
    WHERE a.id = m.account) IS NULL
  AND (SELECT true FROM media_fetch f WHERE f.message = m.id) IS NULL"""
_LAST_EVENT = "SELECT xid AS position, seq AS place FROM {} ORDER BY xid DESC, seq DESC LIMIT 1"
_BEHIND = """SELECT name, xid AS position, seq AS place FROM webhook_reader WHERE (xid, seq) < ($1::xid8, $2)
  ORDER BY xid, seq LIMIT 1"""
_UNREAD = "SELECT count(*) FROM {} WHERE (xid, seq) > ($1::xid8, $2)"
