"""A tenant is deleted with all that it has, over a real router and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from mesh_core import ids
from mesh_core.ids import Prefix, new_uuid
from mesh_core.settings import ObjectsSettings
from mesh_media.repository.expiry_repository import ExpiryRepository
from mesh_media.repository.limit_repository import LimitRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.usage_repository import UsageRepository
from mesh_media.retention.sweeper import Sweeper
from mesh_media.stores.named_stores import open_store
from mesh_router.retention.tenants import delete_deliveries
from sessionmesh.v1 import account_pb2, job_pb2, tenant_pb2
from tests.integration.test_router_tenants import create_account, create_key, create_tenant, own_tenant
from tests.support.eventually import eventually
from tests.support.router_world import ADMIN, RouterWorld, failing

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def delete(world: RouterWorld, tenant_id: str) -> job_pb2.Job:
    request = tenant_pb2.DeleteTenantRequest(tenant_id=tenant_id, force=True)
    job: job_pb2.Job = (await world.tenants.DeleteTenant(request, metadata=ADMIN)).job
    return job


async def ended(world: RouterWorld, job: job_pb2.Job) -> job_pb2.Job:
    """The job when it has ended."""
    call = world.jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job.id), metadata=ADMIN)
    last = job
    async with asyncio.timeout(20):
        async for frame in call:
            last = frame.job
    return last


@asynccontextmanager
async def held(world: RouterWorld, tenant_id: str) -> AsyncIterator[None]:
    """While it lasts no router begins to delete the tenant."""
    connection = await world.database.connect_direct()
    try:
        lock = "SELECT pg_advisory_lock(hashtext('sessionmesh job about ' || $1))"
        await connection.execute(lock, tenant_id)
        yield
    finally:
        await connection.close()


DELETE_TENANT = "/sessionmesh.v1.TenantService/DeleteTenant"


async def filled_tenant(world: RouterWorld) -> tuple[UUID, UUID]:
    """A tenant and its account, with rows of every kind that they can have but media."""
    created = await create_tenant(world)
    key = (await create_key(world, created.id)).secret
    account = ids.decode(Prefix.ACCOUNT, await create_account(world, key), "")
    tenant = ids.decode(Prefix.TENANT, created.id, "")
    for table, values in _ROWS.items():
        row = values.replace("$1", f"'{tenant}'::uuid").replace("$2", f"'{account}'::uuid")
        await world.database.pool.execute(f"INSERT INTO {table} {row}")
    return tenant, account


async def left(world: RouterWorld, tenant: UUID, account: UUID) -> dict[str, int]:
    """How many rows name the tenant or the account, by table."""
    columns = await world.database.pool.fetch(
        "SELECT table_name::text AS name, column_name::text AS of FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_name IN ('tenant', 'account', 'scope')"
        " AND table_name !~ '_[0-9]{8}$'"
    )
    counts: dict[str, int] = {}
    for column in columns:
        query = f"SELECT count(*) FROM {column['name']} WHERE {column['of']} = ANY ($1::uuid[])"
        found = await world.database.pool.fetchval(query, [tenant, account])
        counts[column["name"]] = counts.get(column["name"], 0) + found
    counts["attempts"] = await world.database.pool.fetchval(
        "SELECT count(*) FROM webhook_attempt WHERE delivery = $1", account
    )
    counts["receipts"] = await world.database.pool.fetchval(
        "SELECT count(*) FROM message_receipt WHERE message = $1", account
    )
    counts["parts of receipts"] = await world.database.pool.fetchval(
        "SELECT count(*) FROM message_receipt_part WHERE message = $1", account
    )
    return {name: count for name, count in counts.items() if count}


async def noted(world: RouterWorld, tenant: UUID, count: int) -> bool:
    """Whether so many audit events of the tenant are stored."""
    query = "SELECT count(*) FROM audit_event WHERE tenant = $1"
    return bool(await world.database.pool.fetchval(query, tenant) >= count)


@pytest.mark.read_back("DeleteTenant")
async def test_nothing_of_a_deleted_tenant_is_left_and_nothing_of_others_is_touched(
    world: RouterWorld,
) -> None:
    kept, gone = await filled_tenant(world), await filled_tenant(world)
    await eventually(lambda: noted(world, kept[0], 3), what="what was done to the tenant that stays")
    before = await left(world, *kept)
    job = await delete(world, ids.encode(Prefix.TENANT, gone[0]))
    assert (job.kind, job.tenant_id) == (job_pb2.JOB_KIND_DELETE_TENANT, job.subject)
    last = await ended(world, job)
    assert (last.state, last.total, last.done) == (job_pb2.JOB_STATE_SUCCEEDED, 2, 2)
    await eventually(lambda: noted(world, gone[0], 1), what="who deleted the tenant")
    assert await left(world, *gone) == {"job": 1, "audit_event": 1}
    deletion = "SELECT method FROM audit_event WHERE tenant = $1"
    assert await world.database.pool.fetchval(deletion, gone[0]) == DELETE_TENANT
    assert await left(world, *kept) == before
    assert len(before) > 15


async def test_media_go_with_their_objects_before_the_tenant_does(world: RouterWorld, tmp_path: Path) -> None:
    tenant = ids.decode(Prefix.TENANT, (await create_tenant(world)).id, "")
    store = await open_store(ObjectsSettings(url=f"file://{tmp_path}"))
    sweeper = Sweeper(
        ExpiryRepository(world.database, timedelta(minutes=1)),
        ObjectRepository(world.database),
        store,
        interval_seconds=0.1,
        usage=UsageRepository(world.database),
        limits=LimitRepository(world.database, timedelta()),
    )
    for statement in _MEDIA:
        await world.database.pool.execute(statement, tenant, new_uuid())
    job = await delete(world, ids.encode(Prefix.TENANT, tenant))

    async def waits_for_media() -> bool:
        found = await world.jobs.GetJob(job_pb2.GetJobRequest(job_id=job.id), metadata=ADMIN)
        return bool(found.job.state == job_pb2.JOB_STATE_RUNNING)

    await eventually(waits_for_media)
    assert await world.database.pool.fetchval("SELECT count(*) FROM media WHERE tenant = $1", tenant) == 1
    task = asyncio.create_task(sweeper.run(), name="sweeper")
    try:
        assert (await ended(world, job)).state == job_pb2.JOB_STATE_SUCCEEDED
    finally:
        task.cancel()
    await eventually(lambda: noted(world, tenant, 1), what="who deleted the tenant")
    assert await left(world, tenant, tenant) == {"job": 1, "audit_event": 1}


async def test_the_keys_of_a_tenant_that_is_being_deleted_are_refused_at_once(world: RouterWorld) -> None:
    created = await create_tenant(world)
    key = (await create_key(world, created.id)).secret
    await delete(world, created.id)
    assert (await failing(own_tenant(world, key))).code in (
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNAUTHENTICATED,
    )


class TestBeforeItRuns:
    """The deletion waits: another process holds its lock."""

    async def test_a_cancelled_deletion_deletes_nothing_and_the_tenant_goes_on(
        self, world: RouterWorld
    ) -> None:
        created = await create_tenant(world)
        key = (await create_key(world, created.id)).secret
        account = await create_account(world, key)
        async with held(world, created.id):
            job = await delete(world, created.id)
            assert await delete(world, created.id) == job
            request = job_pb2.CancelJobRequest(job_id=job.id)
            cancelled = (await world.jobs.CancelJob(request, metadata=ADMIN)).job
        assert cancelled.state == job_pb2.JOB_STATE_CANCELLED
        found = await world.tenants.GetTenant(
            tenant_pb2.GetTenantRequest(tenant_id=created.id), metadata=ADMIN
        )
        assert found.tenant.state == tenant_pb2.TENANT_STATE_ACTIVE
        shown = await world.accounts.GetAccount(
            account_pb2.GetAccountRequest(account_id=account), metadata=ADMIN
        )
        assert not shown.account.HasField("delete_time")

    async def test_it_takes_no_accounts_and_no_changes(self, world: RouterWorld) -> None:
        created = await create_tenant(world)
        async with held(world, created.id):
            await delete(world, created.id)
            refused = await failing(
                world.accounts.CreateAccount(
                    account_pb2.CreateAccountRequest(
                        request_id="new", tenant_id=created.id, account=account_pb2.Account()
                    ),
                    metadata=ADMIN,
                )
            )
            assert refused.code is StatusCode.NOT_FOUND
            request = tenant_pb2.UpdateTenantRequest(
                tenant_id=created.id,
                tenant=tenant_pb2.Tenant(state=tenant_pb2.TENANT_STATE_ACTIVE),
                update_mask=FieldMask(paths=["state"]),
            )
            refused = await failing(world.tenants.UpdateTenant(request, metadata=ADMIN))
            assert refused.reason == "RESOURCE_DELETED"


async def test_a_deletion_that_has_begun_cannot_be_cancelled(world: RouterWorld) -> None:
    created = await create_tenant(world)
    tenant = ids.decode(Prefix.TENANT, created.id, "")
    for statement in _MEDIA:  # which nobody deletes here
        await world.database.pool.execute(statement, tenant, new_uuid())
    job = await delete(world, created.id)

    async def runs() -> bool:
        found = await world.jobs.GetJob(job_pb2.GetJobRequest(job_id=job.id), metadata=ADMIN)
        return bool(found.job.state == job_pb2.JOB_STATE_RUNNING)

    await eventually(runs)
    refused = await failing(world.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job.id), metadata=ADMIN))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "RESOURCE_DELETED")


async def test_every_router_looks_after_old_data(world: RouterWorld) -> None:
    started = "SELECT start_time IS NOT NULL FROM retention_run"
    await eventually(lambda: world.database.pool.fetchval(started))


_ROWS = {
    "message (id, account, epoch, direction, status, chat, content, origin)": """VALUES
      (uuid_at(now()), $2, 1, 1, 30, '', '', 1), ($2, $2, 1, 1, 10, '', '', 1)""",
    "message_receipt": "VALUES ($2, 'phone:+491', 40, now())",
    "message_receipt_part": "VALUES ($2, $2, '')",
    "outbox": "SELECT shard, $2, $2, 0, now() FROM account WHERE id = $2",
    "network_message (account, network_id, message)": "VALUES ($2, 'id', $2)",
    "media_fetch (message, account, shard, blob)": "VALUES ($2, $2, 5, '')",
    "disconnect": "VALUES ($2, $2, 1, '', '', NULL, now())",
    "credential": "VALUES ($2, 1, '')",
    "chat (account, chat, last_time)": "VALUES ($2, 'phone:+491', now())",
    "chat_fold (account, until)": "VALUES ($2, $2)",
    "account_record": "VALUES ($2, 1, 'key', '', '', now())",
    "driver_row": "VALUES ($2, 'key', '')",
    "driver_row_count": "VALUES ($2, 1)",
    "session": """VALUES ($2, $1, 1, '', 1, 1, '', '', '', '', true, 0, 0, 0, 0, 0, '', NULL, NULL, NULL,
      now(), '', NULL, '')""",
    "request": "VALUES ($1, 1, 'id', '', $2), ($2, 1, 'id', '', $1)",
    "event (id, seq, tenant, account, epoch, type, body)": "VALUES (uuid_at(now()), 9, $1, $2, 1, 't', '')",
    "tenant_key": "VALUES ($1, 1, '')",
    "tenant_sweep": "VALUES ($1, now())",
    "media_policy (tenant)": "VALUES ($1)",
    "media_rule": "VALUES ($1, 2, NULL, NULL)",
    "media_total": "VALUES ($1, 0, 0, 0)",
    "media_report": "VALUES ($1, now(), '0')",
    "media_usage": "VALUES ($1, $2, 0, 0, 1, 1, 0)",
    "webhook_endpoint (id, tenant, url, secret)": "VALUES ($2, $1, 'https://a.example', '')",
    "webhook_health (endpoint)": "VALUES ($2)",
    "webhook_delivery (id, endpoint, tenant, account, event, event_type, body)": """
      VALUES ($2, $2, $1, $2, $2, 't', '')""",
    "webhook_attempt": "VALUES (uuid_at(now()), $2, $2, 1, now(), '0', 200, '', '')",
    "job (id, tenant, kind, end_time)": "VALUES ($2, $1, 4, now())",
}
"""By table what is inserted for a tenant, $1, and its account, $2."""
_MEDIA = (
    "INSERT INTO media_object VALUES ($1, sha256('a'), $2::uuid::text, 1, 1)",
    """INSERT INTO media (id, tenant, mime_type, sha256, original_size, original_sha256, origin, unprocessed)
      VALUES ($2, $1, 'image/png', sha256('a'), 1, '', 1, 0)""",
)


async def test_queues_are_locked_by_endpoint_as_completions_of_all_tenants_lock_them(
    world: RouterWorld,
) -> None:
    tenant, first, second = new_uuid(), *sorted([new_uuid(), new_uuid()])
    pool = world.database.pool
    for endpoint in (second, first):
        await pool.execute("INSERT INTO webhook_queue VALUES ($1, $2, now(), true)", endpoint, tenant)
    connection, deleter = await world.database.connect_direct(), await world.database.connect_direct()
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM webhook_queue WHERE endpoint = $1 FOR UPDATE", first)
            deleting = asyncio.create_task(delete_deliveries(deleter, tenant))
            waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'"
            await eventually(partial(pool.fetchval, waits, deleter.get_server_pid()))
            lock = "SELECT FROM webhook_queue WHERE endpoint = $1 FOR UPDATE NOWAIT"
            await connection.execute(lock, second)
        await deleting
    finally:
        await connection.close()
        await deleter.close()
    assert not await pool.fetchval("SELECT count(*) FROM webhook_queue WHERE tenant = $1", tenant)
