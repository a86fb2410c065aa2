"""The sweeper goes on whatever one object or one part of its work does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from mesh_core.database import Database
from mesh_core.errors import Unavailable
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_media.repository.expiry_repository import ExpiryRepository
from mesh_media.repository.limit_repository import LimitRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.references import ObjectGone, refer
from mesh_media.repository.rows import Batch, NewObject
from mesh_media.repository.usage_repository import UsageRepository
from mesh_media.retention.sweeper import Sweeper
from tests.support.eventually import eventually


class Store:
    """Deletes every object but `stuck` ones."""

    def __init__(self, *stuck: str) -> None:
        self.stuck = stuck
        self.deleted: list[str] = []

    async def delete_all(self, keys: Sequence[str]) -> None:
        if any(key in self.stuck for key in keys):
            raise ValueError("one of them")
        self.deleted += keys

    async def delete(self, key: str) -> None:
        if key in self.stuck:
            raise ValueError(key)
        self.deleted.append(key)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=postgres_url))
    yield opened
    await opened.close()


async def due(database: Database, *keys: str) -> None:
    """Objects that are due, in this order."""
    tenant = new_uuid()
    await database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    for age, key in enumerate(reversed(keys)):
        await database.pool.execute(
            "INSERT INTO media_loose_object (key, tenant, size, due_time)"
            " VALUES ($1, $2, 1, now() - $3::interval)",
            key,
            tenant,
            timedelta(minutes=1 + age),
        )


def sweeper(database: Database, store: Any, expiry: Any = None) -> Sweeper:
    return Sweeper(
        expiry or ExpiryRepository(database, timedelta(0)),
        ObjectRepository(database),
        store,
        interval_seconds=0.05,
        usage=UsageRepository(database),
        limits=LimitRepository(database, timedelta(0)),
    )


async def test_an_object_that_cannot_be_deleted_stops_no_other_and_is_due_again_later(
    database: Database,
) -> None:
    await due(database, "stuck", "other")
    store = Store("stuck")
    await sweeper(database, store).delete_objects()
    assert store.deleted == ["other"]
    left = await database.pool.fetchrow("SELECT key, due_time > now() AS later FROM media_loose_object")
    assert left is not None
    assert (left["key"], left["later"]) == ("stuck", True)


async def test_objects_none_of_which_can_be_deleted_make_way_for_those_due_after_them(
    database: Database,
) -> None:
    await due(database, "stuck")
    with pytest.raises(ValueError, match="stuck"):
        await sweeper(database, Store("stuck")).delete_objects()
    assert await database.pool.fetchval("SELECT due_time > now() FROM media_loose_object")


async def test_an_object_that_is_deleted_since_its_time_is_over_is_no_uploads_any_more(
    database: Database,
) -> None:
    objects, tenant = ObjectRepository(database), new_uuid()
    await database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    for key in ("slow", "late"):
        await objects.reserve(tenant, None, key, 1, timedelta())
    await objects.settle(tenant, {"slow": 1}, timedelta(hours=1))
    assert await objects.due_for_deletion() == ["late"]
    await objects.settle(tenant, {"late": 1}, timedelta(hours=1))  # too late: its bytes may go at any moment
    async with database.pool.acquire() as connection:
        async with connection.transaction():
            await refer(connection, tenant, [NewObject("slow", b"slow", 1)])
        with pytest.raises(ObjectGone):
            async with connection.transaction():
                await refer(connection, tenant, [NewObject("late", b"late", 1)])


async def test_media_that_cannot_be_expired_do_not_stop_the_sweep(database: Database) -> None:
    class Stuck(ExpiryRepository):
        async def delete_due(self) -> Batch:
            raise Unavailable("no", "BACKEND_UNAVAILABLE")

    await due(database, "other")
    store = Store()
    stuck = Stuck(database, timedelta(0))
    task = asyncio.create_task(sweeper(database, store, stuck).run(), name="sweeper")
    await eventually(lambda: store.deleted)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert store.deleted == ["other"]
