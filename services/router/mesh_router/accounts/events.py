"""Account events: written in the transaction of the change that they tell of."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.telemetry.tracing import current_traceparent
from sessionmesh.v1 import account_pb2, event_pb2


async def record(
    connection: PoolConnectionProxy, kind: str, tenant: UUID, account: UUID, message: account_pb2.Account
) -> None:
    """Add the event `kind`, such as `account.created`. `message` is the account as it is after the change."""
    event_id = ids.new_uuid()
    event = event_pb2.Event(
        id=ids.encode(Prefix.EVENT, event_id),
        tenant_id=message.tenant_id,
        account_id=message.id,
        type=kind,
        occur_time=message.update_time,
        traceparent=current_traceparent(),
        labels=message.labels,
        account=event_pb2.AccountEvent(account=message),
    )
    await connection.execute(_INSERT, event_id, tenant, account, kind, event.SerializeToString())


# The router owns no shard and has no epoch: nobody else writes what its events are about.
_INSERT = "INSERT INTO event (id, seq, tenant, account, epoch, type, body) VALUES ($1, 1, $2, $3, 0, $4, $5)"
