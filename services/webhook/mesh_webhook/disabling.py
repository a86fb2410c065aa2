"""Disabling endpoints that are gone or have failed for days, and telling the tenant by an event."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids
from mesh_core.events.notify import CHANNEL
from mesh_core.ids import Prefix
from mesh_webhook import endpoint_store
from sessionmesh.v1.event_pb2 import EndpointDisabledEvent, Event

logger = structlog.get_logger(__name__)


async def disable(pool: asyncpg.Pool, endpoint: UUID, reason: str) -> bool:
    """Disable an endpoint that is ACTIVE; returns whether it was."""
    async with pool.acquire() as connection, connection.transaction():
        await endpoint_store.raise_revision(connection)
        tenant = await connection.fetchval(_DISABLE, endpoint, reason)
        if tenant is None:
            return False
        name = ids.encode(Prefix.ENDPOINT, endpoint)
        event_id, now = ids.new_uuid(), Timestamp()
        now.GetCurrentTime()
        event = Event(
            id=ids.encode(Prefix.EVENT, event_id),
            tenant_id=ids.encode(Prefix.TENANT, tenant),
            type=EVENT_TYPE,
            occur_time=now,
            endpoint_disabled=EndpointDisabledEvent(endpoint_id=name, reason=reason),
        )
        await connection.execute(_EVENT, event_id, tenant, _NO_ACCOUNT, EVENT_TYPE, event.SerializeToString())
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    logger.warning("endpoint disabled", endpoint=name, reason=reason)
    return True


async def disable_if_failing(pool: asyncpg.Pool, endpoint: UUID, days: float) -> bool:
    """Disable an endpoint that has failed for `days` without a success between; returns whether it was."""
    if not await pool.fetchval(_FAILING, endpoint, timedelta(days=days)):
        return False
    return await disable(pool, endpoint, f"all deliveries have failed for {days:g} days")


EVENT_TYPE = "webhook.endpoint_disabled"
_NO_ACCOUNT = UUID(bytes(16))
_DISABLE = """UPDATE webhook_endpoint SET state = 3, disable_reason = $2, version = version + 1,
  update_time = now()
  WHERE id = $1 AND state = 1 RETURNING tenant"""
_FAILING = "SELECT failing_since < now() - $2::interval FROM webhook_health WHERE endpoint = $1"
_EVENT = (
    """INSERT INTO event (id, seq, tenant, account, epoch, type, body) VALUES ($1, 1, $2, $3, 0, $4, $5)"""
)
