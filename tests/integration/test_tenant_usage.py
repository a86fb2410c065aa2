"""GetTenantUsage over real Postgres, and what writes the rows that it reads."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.usage.counts import used_by
from mesh_core.usage.writer import UsageWriter
from mesh_router.tenants.usage import MOST_DAYS
from sessionmesh.v1 import tenant_pb2
from tests.integration.test_router_tenants import create_key, create_tenant
from tests.support.router_world import ADMIN, RouterWorld, bearer, failing

pytestmark = pytest.mark.asyncio(loop_scope="module")
DAY = date(2026, 3, 1)


async def used(world: RouterWorld, metadata: Any = ADMIN, **fields: Any) -> list[tenant_pb2.TenantDayUsage]:
    request = tenant_pb2.GetTenantUsageRequest(**fields)
    return [*(await world.tenants.GetTenantUsage(request, metadata=metadata)).days]


async def store(world: RouterWorld, tenant: str, day: date, *numbers: int) -> None:
    await world.database.pool.execute(
        "INSERT INTO tenant_usage VALUES ($1, $2, $3, $4, $5, $6, $7)", uuid_of(tenant), day, *numbers
    )


async def rows_of(world: RouterWorld, tenant: UUID) -> int:
    count = await world.database.pool.fetchval("SELECT count(*) FROM tenant_usage WHERE tenant = $1", tenant)
    return int(count)


def uuid_of(tenant: str) -> UUID:
    return ids.decode(Prefix.TENANT, tenant, "tenant")


def at(day: date) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(datetime(day.year, day.month, day.day, 13, tzinfo=UTC))
    return time


@pytest.mark.read_back("GetTenantUsage")
async def test_the_days_asked_for_are_shown_the_first_one_first(world: RouterWorld) -> None:
    tenant = (await create_tenant(world)).id
    for day in (2, 0, 1, 3):
        await store(world, tenant, DAY + timedelta(day), day, 2, 3, 4, 5)
    found = await used(world, tenant_id=tenant, start_time=at(DAY), end_time=at(DAY + timedelta(2)))
    assert [(one.day, one.messages_sent) for one in found] == [
        ("2026-03-01", 0),
        ("2026-03-02", 1),
        ("2026-03-03", 2),
    ]
    assert found[2] == tenant_pb2.TenantDayUsage(
        day="2026-03-03",
        messages_sent=2,
        messages_received=2,
        media_uploaded_bytes=3,
        media_downloaded_bytes=4,
        webhook_attempts=5,
    )


async def test_by_default_the_last_thirty_days_are_shown(world: RouterWorld) -> None:
    tenant = (await create_tenant(world)).id
    today = datetime.now(UTC).date()
    for ago in (0, 29, 30):
        await store(world, tenant, today - timedelta(ago), ago, 0, 0, 0, 0)
    assert [one.messages_sent for one in await used(world, tenant_id=tenant)] == [29, 0]


async def test_there_are_no_days_before_the_first_year(world: RouterWorld) -> None:
    tenant = (await create_tenant(world)).id
    assert await used(world, tenant_id=tenant, end_time=at(date(1, 1, 2))) == []


async def test_a_tenant_sees_its_own_use_and_nobody_elses(world: RouterWorld) -> None:
    own, other = (await create_tenant(world)).id, (await create_tenant(world)).id
    today = datetime.now(UTC).date()
    await store(world, own, today, 1, 0, 0, 0, 0)
    await store(world, other, today, 2, 0, 0, 0, 0)
    key = bearer((await create_key(world, own)).secret)
    assert [one.messages_sent for one in await used(world, key)] == [1]
    assert [one.messages_sent for one in await used(world, key, tenant_id=own)] == [1]
    refused = await failing(used(world, key, tenant_id=other))
    assert refused.code is StatusCode.NOT_FOUND
    assert (await failing(used(world, tenant_id=ids.new_id(Prefix.TENANT)))).code is StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start_time": at(DAY), "end_time": at(DAY - timedelta(1))}, "start_time"),
        ({"start_time": at(DAY), "end_time": at(DAY + timedelta(MOST_DAYS))}, "start_time"),
        ({"end_time": Timestamp(seconds=10**15)}, "end_time"),
        ({"tenant_id": "acme"}, "tenant_id"),
    ],
)
async def test_a_bad_field_is_named(world: RouterWorld, fields: dict[str, Any], field: str) -> None:
    tenant = (await create_tenant(world)).id
    refused = await failing(used(world, **{"tenant_id": tenant} | fields))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, field)


async def test_what_is_counted_is_added_to_the_row_of_the_day(world: RouterWorld) -> None:
    tenant = (await create_tenant(world)).id
    writer = UsageWriter(world.database.pool)
    counted = used_by(uuid_of(tenant))
    for _ in range(2):
        counted.messages_sent += 3
        counted.media_downloaded_bytes += 10**12
        await writer.write()
    await writer.write()
    [day] = await used(world, tenant_id=tenant)
    assert day == tenant_pb2.TenantDayUsage(
        day=datetime.now(UTC).date().isoformat(), messages_sent=6, media_downloaded_bytes=2 * 10**12
    )


async def test_what_cannot_be_written_is_written_later(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = (await create_tenant(world)).id
    used_by(uuid_of(tenant)).webhook_attempts += 7

    class Away:
        async def execute(self, *_: object) -> None:
            raise asyncpg.ConnectionDoesNotExistError

    await UsageWriter(Away()).write()  # type: ignore[arg-type]  # what it uses of a pool
    used_by(uuid_of(tenant)).webhook_attempts += 1
    await UsageWriter(world.database.pool).write()
    [day] = await used(world, tenant_id=tenant)
    assert day.webhook_attempts == 8


async def test_nothing_is_written_of_a_tenant_that_is_gone(world: RouterWorld) -> None:
    gone, here = ids.new_uuid(), (await create_tenant(world)).id
    used_by(gone).messages_sent += 1
    used_by(uuid_of(here)).messages_sent += 1
    await UsageWriter(world.database.pool).write()
    assert len(await used(world, tenant_id=here)) == 1
    assert await rows_of(world, gone) == 0


async def test_the_use_of_a_deleted_tenant_is_deleted(world: RouterWorld) -> None:
    tenant = (await create_tenant(world)).id
    await store(world, tenant, DAY, 1, 1, 1, 1, 1)
    await world.tenants.DeleteTenant(tenant_pb2.DeleteTenantRequest(tenant_id=tenant), metadata=ADMIN)
    assert await rows_of(world, uuid_of(tenant)) == 0
