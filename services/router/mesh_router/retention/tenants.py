"""What a tenant has beside its accounts and events, deleted in small steps."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.pool import AnyConnection


async def delete_endpoints(connection: AnyConnection, tenant: UUID) -> None:
    """Deletes the tenant's webhook endpoints: nothing is delivered to them from then on."""
    while await connection.fetchval(_ENDPOINTS, tenant):
        pass


async def delete_deliveries(connection: AnyConnection, tenant: UUID) -> None:
    """Deletes the tenant's deliveries with their attempts, and what is owed of them."""
    for statement in (_OWED, _DELIVERIES):
        while await connection.fetchval(statement, tenant):
            pass
    await connection.execute(_QUEUES, tenant)


async def delete_audit_events(connection: AnyConnection, tenant: UUID) -> None:
    """Deletes what is known of who did what in the tenant, but for who deleted it."""
    while int((await connection.execute(_AUDIT_EVENTS, tenant)).split()[-1]):
        pass


async def expire_media(connection: AnyConnection, tenant: UUID) -> None:
    """Has the media service delete all of the tenant's media, as it does with those whose time is over."""
    while int((await connection.execute(_EXPIRE_MEDIA, tenant)).split()[-1]):
        pass


async def media_are_gone(connection: AnyConnection, tenant: UUID) -> bool:
    """Whether the media service has deleted all of the tenant's media, and their objects from the store."""
    await connection.execute(_OBJECTS_DUE, tenant)
    return not await connection.fetchval(_MEDIA_LEFT, tenant)


async def delete_tenant(connection: AnyConnection, tenant: UUID) -> None:
    """Deletes the tenant's row with its keys, jobs that have ended and request ids; in one transaction.

    Raises asyncpg's `ForeignKeyViolationError` while it has accounts, media or endpoints.
    """
    for statement in _OWN:
        await connection.execute(statement, tenant)


_ENDPOINTS = """WITH gone AS (DELETE FROM webhook_endpoint WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_endpoint WHERE tenant = $1 ORDER BY id LIMIT 500)) RETURNING id),
  locked AS (SELECT endpoint FROM webhook_health WHERE endpoint IN (SELECT id FROM gone)
    ORDER BY endpoint FOR UPDATE),
  health AS (DELETE FROM webhook_health WHERE endpoint IN (SELECT endpoint FROM locked))
  SELECT count(*) FROM gone"""
_OWED = """WITH gone AS (DELETE FROM webhook_owed WHERE (tenant, xid, seq) IN (
    SELECT tenant, xid, seq FROM webhook_owed WHERE tenant = $1 LIMIT 1000) RETURNING seq)
  SELECT count(*) FROM gone"""
_DELIVERIES = """WITH gone AS (DELETE FROM webhook_delivery WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_delivery WHERE tenant = $1 ORDER BY id LIMIT 1000)) RETURNING endpoint, id),
  attempts AS (DELETE FROM webhook_attempt WHERE (endpoint, delivery) IN (SELECT endpoint, id FROM gone))
  SELECT count(*) FROM gone"""
# By endpoint, as completions lock them, which are many tenants' at once.
_QUEUES = """DELETE FROM webhook_queue WHERE endpoint = ANY (ARRAY(
  SELECT endpoint FROM webhook_queue WHERE tenant = $1 ORDER BY endpoint FOR UPDATE))"""
_AUDIT_EVENTS = """DELETE FROM audit_event WHERE ctid = ANY (ARRAY(SELECT ctid FROM audit_event
  WHERE tenant = $1 AND method <> '/sessionmesh.v1.TenantService/DeleteTenant' LIMIT 5000))"""
_EXPIRE_MEDIA = """UPDATE media SET ended = true, expire_time = now() WHERE id = ANY (ARRAY(
  SELECT id FROM media WHERE tenant = $1 AND NOT ended LIMIT 1000))"""
_OBJECTS_DUE = "UPDATE media_loose_object SET due_time = now() WHERE tenant = $1 AND due_time > now()"
_MEDIA_LEFT = """SELECT EXISTS (SELECT FROM media WHERE tenant = $1)
  OR EXISTS (SELECT FROM media_object WHERE tenant = $1)
  OR EXISTS (SELECT FROM media_loose_object WHERE tenant = $1)"""
_OWN = (
    "DELETE FROM request WHERE scope = $1",
    "DELETE FROM job WHERE tenant = $1 AND end_time IS NOT NULL",
    "DELETE FROM tenant_sweep WHERE tenant = $1",
    "DELETE FROM media_policy WHERE tenant = $1",
    "DELETE FROM media_rule WHERE tenant = $1",
    "DELETE FROM media_total WHERE tenant = $1",
    "DELETE FROM media_report WHERE tenant = $1",
    "DELETE FROM media_usage WHERE tenant = $1",
    "DELETE FROM tenant_usage WHERE tenant = $1",
    "DELETE FROM api_key WHERE tenant = $1",
    "DELETE FROM tenant_key WHERE tenant = $1",
    "DELETE FROM tenant WHERE id = $1",
)
