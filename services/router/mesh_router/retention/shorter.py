"""Tenants that keep contents and events for less time than their days stand, swept in small steps.

Of a message its content goes, its status stays until its day is dropped. Events and ended deliveries go
whole. A tenant's events that the webhooks' reader has not read yet stop its sweep until the next run.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.partitions import stored_days
from mesh_core.database.pool import AnyConnection
from mesh_core.events.expiry import expire_behind
from mesh_core.message_status import WAITING
from mesh_core.metrics import counter
from mesh_router.retention.policy import Policy
from sessionmesh.v1 import webhook_pb2

EMPTIED = counter(
    "mesh_retention_emptied_messages_total",
    "Messages whose content was deleted before their day.",
    answers="Do tenants' shorter retentions work?",
)
DELETED_EVENTS = counter(
    "mesh_retention_deleted_events_total",
    "Events that were deleted before their day.",
    answers="Do tenants' shorter retentions work?",
)


@dataclass(frozen=True, slots=True)
class ShorterTenant:
    """What it stored before `swept_until` is done, and what it stored before `cutoff` has to go."""

    id: UUID
    cutoff: datetime
    swept_until: datetime | None


async def shorter_tenants(connection: AnyConnection, policy: Policy, now: datetime) -> list[ShorterTenant]:
    """The tenants whose own time is shorter than the days stand."""
    tenants = []
    for row in await connection.fetch(_TENANTS):
        kept = policy.of(row["seconds"])
        if kept < policy.longest:
            tenants.append(ShorterTenant(row["id"], now - kept, row["swept_until"]))
    return tenants


async def sweep(connection: AnyConnection, tenant: ShorterTenant) -> bool:
    """Deletes what has to go; returns False when unread events stopped it before the cutoff."""
    await _delete_deliveries(connection, tenant)
    event_days = await stored_days(connection, "event")
    for begin, end in _steps(tenant, {*event_days, *await stored_days(connection, "message")}):
        if begin.astimezone(UTC).date() in event_days and not await _delete_events(
            connection, tenant.id, begin, end
        ):
            return False
        await _empty_messages(connection, tenant.id, begin - _OVERLAP, end)
        await connection.execute(_SWEPT, tenant.id, end)
    return True


def _steps(tenant: ShorterTenant, days: Set[date]) -> list[tuple[datetime, datetime]]:
    """An hour each of the days that are stored, from where the last sweep ended; none spans two days."""
    if not days:
        return []
    oldest = datetime.combine(min(days), time(), UTC)
    begin = max(oldest, tenant.swept_until or oldest)
    steps = []
    while begin < tenant.cutoff:
        hour = begin.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        end = min(hour, tenant.cutoff)
        if begin.astimezone(UTC).date() in days:
            steps.append((begin, end))
        begin = end
    return steps


async def _delete_events(connection: AnyConnection, tenant: UUID, begin: datetime, end: datetime) -> bool:
    """Deletes the tenant's events of that time and raises its horizon; False when unread ones stay."""
    name = f"event_{begin.astimezone(UTC):%Y%m%d}"
    last = await connection.fetchrow(_LAST_EVENT.format(name), tenant, begin, end)
    if last is not None:
        await expire_behind(connection, last["position"], last["place"], tenant)
    while True:
        row = await connection.fetchrow(_DELETE_EVENTS.format(name), tenant, begin, end, _BATCH)
        assert row is not None  # noqa: S101 - an aggregate
        DELETED_EVENTS.inc(row["deleted"])
        if row["deleted"] < _BATCH:
            return not await connection.fetchval(_EVENTS_LEFT.format(name), tenant, begin, end)


async def _empty_messages(connection: AnyConnection, tenant: UUID, begin: datetime, end: datetime) -> None:
    after = UUID(bytes(16))
    while accounts := await connection.fetchval(_ACCOUNTS, tenant, after):
        while emptied := int(
            (await connection.execute(_EMPTY, accounts, begin, end, _BATCH, list(WAITING))).split()[-1]
        ):
            EMPTIED.inc(emptied)
        after = accounts[-1]


async def _delete_deliveries(connection: AnyConnection, tenant: ShorterTenant) -> None:
    while int((await connection.execute(_DELETE_DELIVERIES, tenant.id, tenant.cutoff, _BATCH)).split()[-1]):
        pass


_BATCH = 2000
# Rows that were locked by a status change are passed over, and found by the next sweep.
_OVERLAP = timedelta(hours=2)
_TENANTS = """SELECT t.id, (t.settings->>'retention_seconds')::bigint AS seconds, s.swept_until
  FROM tenant t LEFT JOIN tenant_sweep s ON s.tenant = t.id ORDER BY t.id"""
_READ = """(NOT EXISTS (SELECT FROM webhook_endpoint e WHERE e.tenant = $1)
  OR (xid, seq) <= (SELECT r.xid, r.seq FROM webhook_reader r ORDER BY r.xid, r.seq LIMIT 1))"""
_DELETE_EVENTS = f"""WITH gone AS (
    DELETE FROM {{0}} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {{0}}
      WHERE id >= uuid_at($2) AND id < uuid_at($3) AND tenant = $1 AND {_READ} LIMIT $4))
    RETURNING xid AS position, seq AS place),
  last AS (SELECT position, place FROM gone ORDER BY position DESC, place DESC LIMIT 1),
  raised AS (
    INSERT INTO tenant_sweep AS s (tenant, swept_until, xid, seq) SELECT $1, $2, position, place FROM last
      ON CONFLICT (tenant) DO UPDATE SET xid = excluded.xid, seq = excluded.seq
        WHERE (s.xid, s.seq) < (excluded.xid, excluded.seq))
  SELECT count(*) AS deleted FROM gone"""  # noqa: S608 - our own names
# Of those that are about to go; only for tenants that have a subscription.
_LAST_EVENT = f"""SELECT xid AS position, seq AS place FROM {{}}
  WHERE id >= uuid_at($2) AND id < uuid_at($3) AND tenant = $1 AND {_READ}
    AND EXISTS (SELECT FROM subscription s WHERE s.tenant = $1 AND s.expire_time IS NULL)
  ORDER BY position DESC, place DESC LIMIT 1"""  # noqa: S608 - our own names
_EVENTS_LEFT = (
    """SELECT EXISTS (SELECT FROM {} WHERE id >= uuid_at($2) AND id < uuid_at($3) AND tenant = $1)"""
)
_ACCOUNTS = """SELECT array_agg(id ORDER BY id) FROM (
  SELECT id FROM account WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT 200) AS next"""
_EMPTY = """WITH old AS (
    SELECT account, id FROM message m
      WHERE account = ANY ($1::uuid[]) AND id >= uuid_at($2) AND id < uuid_at($3)
        AND octet_length(content) > 0 AND status <> ALL ($5::smallint[])
        AND NOT EXISTS (SELECT FROM media_fetch f WHERE f.message = m.id)
      LIMIT $4 FOR UPDATE SKIP LOCKED)
  UPDATE message m SET content = '' FROM old WHERE m.account = old.account AND m.id = old.id"""
_DELETE_DELIVERIES = f"""DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(SELECT id FROM webhook_delivery
  WHERE tenant = $1 AND id < uuid_at($2) AND state <> {webhook_pb2.DELIVERY_STATE_PENDING}
  ORDER BY id LIMIT $3))"""  # noqa: S608 - constants
_SWEPT = """INSERT INTO tenant_sweep AS s (tenant, swept_until) VALUES ($1, $2)
  ON CONFLICT (tenant) DO UPDATE SET swept_until = excluded.swept_until"""
