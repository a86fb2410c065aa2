"""What a migration of storage waits for at its end: uploads that may still write to another store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_media.repository import moving_repository as moving
from mesh_media.repository.moving_repository import Moving
from mesh_media.repository.object_repository import ObjectRepository
from tests.support.media_rows import DAY


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    yield opened
    await opened.close()


@pytest.fixture
async def tenant(database: Database) -> UUID:
    tenant = new_uuid()
    await database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    return tenant


async def still_comes(database: Database, target: str) -> bool:
    async with database.alone("test") as connection:
        assert connection is not None
        return await moving.still_comes_elsewhere(connection, target)


@pytest.mark.parametrize("size", [0, 10])
async def test_an_upload_to_another_store_is_waited_for_however_small_until_it_failed(
    database: Database, tenant: UUID, size: int
) -> None:
    objects = ObjectRepository(database)
    await objects.reserve(tenant, None, "file", size, DAY)
    assert await still_comes(database, "archive")
    assert not await still_comes(database, "main")
    await objects.give_back("file", written=True)
    assert not await still_comes(database, "archive")
    assert await objects.due_for_deletion() == [], "the store may still be at it"


async def test_a_copy_that_an_earlier_migration_left_is_not_waited_for(
    database: Database, tenant: UUID
) -> None:
    async with database.alone("test") as connection:
        assert connection is not None
        copy = {"archive:copy": Moving(tenant, bytes(32), "file", 10)}
        await moving.announce_copies(connection, copy, timedelta(hours=1))
    assert not await still_comes(database, "main")
