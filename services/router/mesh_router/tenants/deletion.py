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
from mesh_core.jobs import Progress, store
from mesh_router.retention.alone import alone
from mesh_router.retention.purge import delete_events_of_tenant, purge_account
from mesh_router.retention.tenants import (
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
BUSY_SECONDS, IDLE_SECONDS = 0.5, 2.0
"""Time between two looks at what a deletion waits for, and between two looks for deletions."""

AccountChanged = Callable[[str], Awaitable[None]]


class TenantDeletions:
    """Starts, runs and cancels deletions; `run` must run in every router. `account_changed` tells the owner
    of an account that its row has changed, or has gone.
    """

    def __init__(self, database: Database, account_changed: AccountChanged) -> None:
        self._database = database
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
                connection,
                ids.new_uuid(),
                job_pb2.JOB_KIND_DELETE_TENANT,
                request.tenant_id,
                detail,
                tenant,
            )

    def progress(self, row: asyncpg.Record) -> Progress:
        """As stored: it is written after each step."""
        return Progress(row["total"], row["done"])

    async def advance(self, job: UUID) -> asyncpg.Record | None:
        """Cancels a deletion that has not begun, where that was asked for; returns the job's row.

        Raises `FailedPrecondition` for one that has begun.
        """
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await store.lock(connection, job)
            if row is None or row["end_time"] is not None or row["cancel_time"] is None:
                return row
            if row["state"] != job_pb2.JOB_STATE_PENDING:
                raise FailedPrecondition("the tenant's data is being deleted already", "RESOURCE_DELETED")
            return await self._cancel(connection, row)

    async def run(self) -> None:
        """Goes on with every deletion that has not ended, until cancelled."""
        while True:
            try:
                for row in await store.unfinished(self._database.pool, job_pb2.JOB_KIND_DELETE_TENANT):
                    await self._guarded(row)
            except Exception as error:  # whatever it is, the next look may do better
                logger.warning("deletions of tenants are not looked for", error=repr(error))
            await asyncio.sleep(IDLE_SECONDS)

    async def _guarded(self, row: asyncpg.Record) -> None:
        """One tenant that cannot be deleted stops no other; it is tried again."""
        try:
            async with alone(self._database, f"deletion of {row['subject']}") as connection:
                if connection is not None and await self._begun(row["id"]):
                    await self._delete(connection, row["id"], row["tenant"])
        except Exception as error:
            logger.warning("a tenant is not deleted yet", tenant=row["subject"], error=repr(error))

    async def _begun(self, job: UUID) -> bool:
        """Has the job begin; False where it was cancelled before that."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            row = await store.lock(connection, job)
            if row is None or row["end_time"] is not None:
                return False
            if row["state"] == job_pb2.JOB_STATE_PENDING:
                if row["cancel_time"] is not None:
                    await self._cancel(connection, row)
                    return False
                total = await connection.fetchval(_LEFT, row["tenant"])
                await store.change(connection, job, job_pb2.JOB_STATE_RUNNING, total, 0)
                logger.info("a tenant is being deleted", tenant=row["subject"], items=total)
        return True

    async def _delete(self, connection: asyncpg.Connection, job: UUID, tenant: UUID) -> None:
        """All of it from the beginning: what is gone already costs little."""
        await self._close_accounts(connection, tenant)
        await delete_endpoints(connection, tenant)
        await expire_media(connection, tenant)
        while account := await connection.fetchval(_NEXT_ACCOUNT, tenant):
            await purge_account(connection, account)
            await self._account_changed(ids.encode(Prefix.ACCOUNT, account))
            await connection.execute(_PROGRESS, tenant, job)
        await delete_deliveries(connection, tenant)
        await delete_events_of_tenant(connection, tenant)
        while not await media_are_gone(connection, tenant):
            await connection.execute(_PROGRESS, tenant, job)
            await asyncio.sleep(BUSY_SECONDS)
        async with connection.transaction():
            row = await connection.fetchrow("SELECT total FROM job WHERE id = $1 FOR UPDATE", job)
            assert row is not None  # noqa: S101 - jobs are deleted long after their end
            await delete_tenant(connection, tenant)
            await connection.execute(_SUCCEEDED, job)
        logger.info("a tenant was deleted", tenant=ids.encode(Prefix.TENANT, tenant), items=row["total"])

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

    async def _cancel(self, connection: store.Connection, row: asyncpg.Record) -> asyncpg.Record:
        await connection.execute(_SET_STATE, row["tenant"], json.loads(row["detail"])["state"])
        return await store.change(connection, row["id"], job_pb2.JOB_STATE_CANCELLED, row["total"], 0)


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
