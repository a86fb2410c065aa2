"""Deletes tenants with all they have: a job that any router goes on with where another one stopped.

From the moment it is asked for, the tenant is DELETING and its keys are refused. Nothing is deleted before
the job runs, so until then cancelling it undoes all. Then, in this order: its sessions close, endpoints,
media, accounts, deliveries and events go, each in small steps, and the tenant's own row last.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from time import monotonic

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.ids import Prefix
from mesh_core.jobs import NewJob, Total, Worker, store, traces
from mesh_router.retention.purge import delete_events_of_tenant, purge_account
from mesh_router.retention.tenants import (
    delete_audit_events,
    delete_deliveries,
    delete_endpoints,
    delete_tenant,
    expire_media,
    media_are_gone,
)
from sessionmesh.v1 import job_pb2, session_pb2, tenant_pb2

logger = structlog.get_logger(__name__)

CLOSE_SECONDS = 90.0
"""How long sessions have to close: nodes that are not reached look at their accounts once a minute."""
MEDIA_SECONDS = 60.0
"""How long one turn of a deletion waits for the media service to delete the tenant's media."""
BUSY_SECONDS = 0.5
"""Time between two looks at what a deletion waits for."""

AccountChanged = Callable[[str], Awaitable[None]]


class TenantDeletions(Worker):
    """Starts, runs and cancels deletions. `account_changed` tells the owner of an account that its row has
    changed, or has gone.
    """

    kind = job_pb2.JOB_KIND_DELETE_TENANT

    def __init__(self, database: Database, account_changed: AccountChanged) -> None:
        super().__init__(database)
        self._account_changed = account_changed

    async def start(self, request: tenant_pb2.DeleteTenantRequest) -> asyncpg.Record:
        """Returns the job's row: that of the deletion that is there already, if there is one.

        Raises `NotFound`, and `Aborted` for an etag that is not the present one.
        """
        tenant = ids.decode(Prefix.TENANT, request.tenant_id, "tenant_id")
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_LOCK, tenant)
            if row is None:
                raise NotFound("tenant", request.tenant_id)
            running = await store.unfinished(connection, job_pb2.JOB_KIND_DELETE_TENANT, request.tenant_id)
            if running:
                return running[0]
            validation.check_etag(request.etag, row["version"])
            await connection.execute(_SET_STATE, tenant, tenant_pb2.TENANT_STATE_DELETING)
            detail = json.dumps({"state": row["state"]})
            return await store.insert(
                connection, NewJob(ids.new_uuid(), self.kind, tenant, request.tenant_id, detail)
            )

    async def cancel(self, connection: store.Connection, row: asyncpg.Record) -> asyncpg.Record:
        if row["state"] != job_pb2.JOB_STATE_PENDING:
            raise FailedPrecondition("the tenant's data is being deleted already", "RESOURCE_DELETED")
        await connection.execute(_SET_STATE, row["tenant"], json.loads(row["detail"])["state"])
        return await store.change(connection, row["id"], job_pb2.JOB_STATE_CANCELLED, row["total"], 0)

    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        return Total(await connection.fetchval(_LEFT, row["tenant"]))

    async def work(self, connection: asyncpg.Connection, row: asyncpg.Record) -> None:
        """All of it from the beginning: what is gone already costs little."""
        job, tenant = row["id"], row["tenant"]
        await self._close_accounts(connection, tenant)
        await delete_endpoints(connection, tenant)
        await expire_media(connection, tenant)
        while account := await connection.fetchval(_NEXT_ACCOUNT, tenant):
            await purge_account(connection, account)
            await self._account_changed(ids.encode(Prefix.ACCOUNT, account))
            await connection.execute(_PROGRESS, tenant, job)
        await delete_deliveries(connection, tenant)
        await delete_events_of_tenant(connection, tenant)
        until = monotonic() + MEDIA_SECONDS
        while not await media_are_gone(connection, tenant):
            await connection.execute(_PROGRESS, tenant, job)
            if monotonic() > until:
                logger.warning("a deletion waits for the media service", tenant=row["subject"])
                return  # others have their turn before it is this one's again
            await asyncio.sleep(BUSY_SECONDS)
        await delete_audit_events(connection, tenant)
        async with connection.transaction():
            await delete_tenant(connection, tenant)
            await connection.execute(_SUCCEEDED, job)
        traces.record_end(job, self.kind, job_pb2.JOB_STATE_SUCCEEDED)
        logger.info("a tenant was deleted", tenant=row["subject"])

    async def _close_accounts(self, connection: asyncpg.Connection, tenant: UUID) -> None:
        """Deletes the accounts as DeleteAccount does, but with no time to undelete them, and waits until no
        session of theirs is to be online.
        """
        while accounts := await connection.fetch(_DELETE_ACCOUNTS, tenant):
            names = [ids.encode(Prefix.ACCOUNT, row["id"]) for row in accounts]
            await asyncio.gather(*map(self._account_changed, names))
        until = monotonic() + CLOSE_SECONDS  # nodes that are gone change no session's state any more
        while monotonic() < until:
            if not await connection.fetchval(_ONLINE, tenant, list(_LIVE)):
                break
            await asyncio.sleep(BUSY_SECONDS)


_LIVE = (
    session_pb2.SESSION_STATE_PAIRING,
    session_pb2.SESSION_STATE_CONNECTING,
    session_pb2.SESSION_STATE_CONNECTED,
    session_pb2.SESSION_STATE_BACKOFF,
)
_LOCK = "SELECT * FROM tenant WHERE id = $1 FOR UPDATE"
_SET_STATE = """UPDATE tenant SET state = $2, version = version + 1, update_time = now() WHERE id = $1"""
_LEFT = """SELECT (SELECT count(*) FROM account WHERE tenant = $1)
  + (SELECT count(*) FROM webhook_endpoint WHERE tenant = $1)
  + (SELECT count(*) FROM media WHERE tenant = $1)"""
_PROGRESS = f"""UPDATE job SET done = greatest(0, total - ({_LEFT})), update_time = now()
  WHERE id = $2"""  # noqa: S608 - constants
_SUCCEEDED = f"""UPDATE job SET state = {job_pb2.JOB_STATE_SUCCEEDED}, done = total, update_time = now(),
  end_time = now() WHERE id = $1"""  # noqa: S608 - constants
_DELETE_ACCOUNTS = """UPDATE account SET delete_time = coalesce(delete_time, now()), expire_time = now(),
    version = version + 1, update_time = now()
  WHERE id = ANY (ARRAY(SELECT id FROM account WHERE tenant = $1
    AND (expire_time IS NULL OR expire_time > now()) ORDER BY id LIMIT 100)) RETURNING id"""
_ONLINE = """SELECT EXISTS (SELECT FROM account a JOIN session s ON s.account = a.id
  WHERE a.tenant = $1 AND s.state = ANY ($2::int[]))"""
_NEXT_ACCOUNT = "SELECT id FROM account WHERE tenant = $1 LIMIT 1"
