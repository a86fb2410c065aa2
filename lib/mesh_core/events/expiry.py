"""Named subscriptions lose their place, and their tenants are told, before events behind it are deleted.

Whoever deletes events calls this first; the subscriptions themselves are the webhook service's.
"""

from __future__ import annotations

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids
from mesh_core.database.pool import AnyConnection
from mesh_core.ids import Prefix, new_uuid
from mesh_core.metrics import counter
from sessionmesh.v1.event_pb2 import Event, SubscriptionExpiredEvent

logger = structlog.get_logger(__name__)

EVENT_TYPE = "subscription.expired"
EXPIRED = counter(
    "mesh_subscriptions_expired_total",
    "Named subscriptions that lost their place.",
    answers="Do subscribers lag so far that they lose events?",
)


async def expire_behind(connection: AnyConnection, xid: int, seq: int, tenant: UUID | None = None) -> int:
    """Expires the subscriptions of a tenant, or (None) of all, that stand before the event at this position;
    returns how many. Each is one short transaction, with its event.
    """
    expired = 0
    for row in await connection.fetch(_BEHIND, xid, seq, tenant):
        expired += await _expire(connection, row)
    return expired


async def _expire(connection: AnyConnection, row: asyncpg.Record) -> int:
    event_id, now = new_uuid(), Timestamp()
    now.GetCurrentTime()
    event = Event(
        id=ids.encode(Prefix.EVENT, event_id),
        tenant_id=ids.encode(Prefix.TENANT, row["tenant"]),
        type=EVENT_TYPE,
        occur_time=now,
        subscription_expired=SubscriptionExpiredEvent(subscription=row["name"]),
    )
    done = await connection.execute(
        _EXPIRE, row["id"], event_id, row["tenant"], UUID(bytes(16)), EVENT_TYPE, event.SerializeToString()
    )
    told = int(done.split()[-1])
    if told:
        EXPIRED.inc()
        logger.warning("a subscription has lost its place", tenant=str(row["tenant"]), name=row["name"])
    return told


_BEHIND = """SELECT s.id, s.tenant, s.name FROM subscription s
  WHERE s.expire_time IS NULL AND ($3::uuid IS NULL OR s.tenant = $3)
    AND (SELECT greatest(l.place, coalesce(c.done, '')) FROM subscription_lane l
           LEFT JOIN subscription_consumer c ON c.id = l.holder
           WHERE l.subscription = s.id ORDER BY 1 LIMIT 1)
      < (SELECT event_place(generation, $1::xid8, $2) FROM cluster_identity)"""
_EXPIRE = """WITH expired AS (
    UPDATE subscription SET expire_time = now() WHERE id = $1 AND expire_time IS NULL RETURNING id),
  ended AS (DELETE FROM subscription_consumer WHERE subscription IN (SELECT id FROM expired))
  INSERT INTO event (id, seq, tenant, account, epoch, type, body)
    SELECT $2, 1, $3, $4, 0, $5, $6 FROM expired"""
