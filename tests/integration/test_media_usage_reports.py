"""Tenants with very many files, whose usage is counted ahead of their asking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_media.repository import usage_repository
from mesh_media.repository.usage_repository import UsageRepository
from tests.support.media_rows import DEFAULT, SENT, add_media, refer


@pytest.fixture
async def database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(usage_repository, "LIVE", 2)
    opened = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    yield opened
    await opened.close()


async def large_tenant(database: Database) -> tuple[UUID, UUID]:
    """A tenant with three files, one of which was sent by its account."""
    tenant, account = new_uuid(), new_uuid()
    media = [await add_media(database.pool, tenant) for _ in range(3)]
    await refer(database.pool, media[0], SENT, account=account)
    return tenant, account


async def test_a_report_says_what_counting_says(database: Database) -> None:
    usage, (tenant, _) = UsageRepository(database), await large_tenant(database)
    counted = await usage.of_tenant(tenant), await usage.of_accounts(tenant, None, None, 10)
    assert counted[0].by_category == {DEFAULT: (2, 20), SENT: (1, 10)}
    assert await usage.report()
    reported, (accounts, time) = (
        await usage.of_tenant(tenant),
        await usage.of_accounts(tenant, None, None, 10),
    )
    assert (replace(reported, report_time=None), (accounts, None)) == counted
    assert reported.report_time == time is not None


async def test_a_report_is_read_until_the_next_one_but_what_is_stored_in_all_is_exact(
    database: Database,
) -> None:
    usage, (tenant, account) = UsageRepository(database), await large_tenant(database)
    await usage.report()
    await refer(database.pool, await add_media(database.pool, tenant), SENT, account=account)
    assert not await usage.report(), "it was made a moment ago"
    found = await usage.of_tenant(tenant)
    assert found.report_time == await database.pool.fetchval("SELECT made_time FROM media_report")
    assert (found.bytes, found.by_category[SENT]) == (40, (1, 10))
    await database.pool.execute("UPDATE media_report SET made_time = now() - interval '6 minutes'")
    assert await usage.report()
    assert (await usage.of_tenant(tenant)).by_category[SENT] == (2, 20)
    [of_account], _ = await usage.of_accounts(tenant, [account], None, 10)
    assert (of_account.files, of_account.bytes) == (2, 20)


async def test_a_small_tenant_is_counted_when_it_asks(database: Database) -> None:
    usage, tenant = UsageRepository(database), new_uuid()
    await add_media(database.pool, tenant)
    assert not await usage.report()
    await add_media(database.pool, tenant)
    found = await usage.of_tenant(tenant)
    assert (found.by_category, found.report_time) == ({DEFAULT: (2, 20)}, None)
