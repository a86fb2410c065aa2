"""Disables endpoints that are gone or have failed for days, and tells the tenant by an event."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids
from mesh_core.events.notify import CHANNEL
from mesh_core.ids import Prefix
from sessionmesh.v1 import webhook_pb2
from sessionmesh.v1.event_pb2 import EndpointDisabledEvent, Event

logger = structlog.get_logger(__name__)

EVENT_TYPE = "webhook.endpoint_disabled"


async def disable(pool: asyncpg.Pool, endpoint: UUID, reason: str) -> bool:
    """Disables an endpoint that is ACTIVE; returns whether it was."""
    async with pool.acquire() as connection, connection.transaction():
        tenant = await connection.fetchval(_DISABLE, endpoint, reason)
        if tenant is None:
            return False
        endpoint_id = ids.encode(Prefix.ENDPOINT, endpoint)
        event_id, now = ids.new_uuid(), Timestamp()
        now.GetCurrentTime()
        event = Event(
            id=ids.encode(Prefix.EVENT, event_id),
            tenant_id=ids.encode(Prefix.TENANT, tenant),
            type=EVENT_TYPE,
            occur_time=now,
            endpoint_disabled=EndpointDisabledEvent(endpoint_id=endpoint_id, reason=reason),
        )
        await connection.execute(
            _INSERT_EVENT, event_id, tenant, _NO_ACCOUNT, EVENT_TYPE, event.SerializeToString()
        )
        await connection.execute("SELECT pg_notify($1, '')", CHANNEL)
    logger.warning("endpoint disabled", endpoint=endpoint_id, reason=reason)
    return True


async def disable_if_failing(pool: asyncpg.Pool, endpoint: UUID, days: float) -> bool:
    """Disables an endpoint that has failed for `days` without a success; returns whether it did."""
    if not await pool.fetchval(_IS_FAILING, endpoint, timedelta(days=days)):
        return False
    return await disable(pool, endpoint, f"all deliveries have failed for {days:g} days")


_NO_ACCOUNT = UUID(bytes(16))
_DISABLE = f"""UPDATE webhook_endpoint SET state = {webhook_pb2.ENDPOINT_STATE_DISABLED}, disable_reason = $2,
  version = version + 1, update_time = now()
  WHERE id = $1 AND state = {webhook_pb2.ENDPOINT_STATE_ACTIVE} RETURNING tenant"""  # noqa: S608 - constants
_IS_FAILING = "SELECT failing_since < now() - $2::interval FROM webhook_health WHERE endpoint = $1"
_INSERT_EVENT = (
    """INSERT INTO event (id, seq, tenant, account, epoch, type, body) VALUES ($1, 1, $2, $3, 0, $4, $5)"""
)
