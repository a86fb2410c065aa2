"""What becomes of files when the messages that referred to them, or their accounts, go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from asyncpg.pgproto.pgproto import UUID

from tests.support.eventually import eventually
from tests.support.media_rows import DAY, NETWORK, RECEIVED, SENT, add_media, days_left, refer
from tests.support.old_days import NOON, OldDays, id_of, old_days


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[OldDays]:
    async with old_days(postgres_url) as opened:
        yield opened


async def referred(world: OldDays, media: UUID, days: float, account: UUID) -> UUID:
    """A message of so many days ago that refers to the file."""
    message: UUID = id_of(NOON - days * DAY)
    await refer(world.database.pool, media, SENT, age=days * DAY, account=account, message=message)
    return message


async def test_of_messages_whose_day_is_gone_the_last_of_an_account_still_counts_for_its_file(
    world: OldDays,
) -> None:
    media, one = await add_media(world.database.pool, world.tenant), world.account
    _, other = await world.new_tenant()
    await world.message(DAY)
    await referred(world, media, 20, one)
    last = [await referred(world, media, 15, one), await referred(world, media, 18, other)]
    assert await world.run()
    left = await world.database.pool.fetch("SELECT message FROM media_reference")
    assert {row["message"] for row in left} == {*last}


async def test_references_of_days_that_stand_are_all_kept(world: OldDays) -> None:
    media = await add_media(world.database.pool, world.tenant)
    await world.message(3 * DAY)
    for days in (2, 1, 0):
        await referred(world, media, days, world.account)
    assert await world.run()
    assert await world.value("SELECT count(*) FROM media_reference") == 3


_WAITS = """SELECT EXISTS (SELECT FROM pg_stat_activity
  WHERE datname = current_database() AND wait_event_type = 'Lock')"""


async def purged(world: OldDays) -> None:
    await world.execute(
        "UPDATE account SET delete_time = $2, expire_time = $2 WHERE id = $1", world.account, NOON
    )
    assert await world.run()


async def ended(world: OldDays, media: UUID) -> bool:
    return await world.value("SELECT ended FROM media WHERE id = $1", media) is True


async def test_files_that_came_with_a_purged_accounts_messages_go(world: OldDays) -> None:
    media = await add_media(world.database.pool, world.tenant, origin=NETWORK)
    await refer(world.database.pool, media, RECEIVED, account=world.account)
    await purged(world)
    assert await ended(world, media)
    assert await world.value("SELECT count(*) FROM media_reference") == 0


async def test_files_that_another_account_refers_to_stay(world: OldDays) -> None:
    media = await add_media(world.database.pool, world.tenant, origin=NETWORK)
    await refer(world.database.pool, media, RECEIVED, account=world.account)
    _, other = await world.new_tenant()
    await refer(world.database.pool, media, RECEIVED, account=other, age=10 * DAY)
    await purged(world)
    assert not await ended(world, media)
    left = await days_left(world.database.pool, media)
    assert left is not None
    assert 19 < left < 21


async def test_a_file_that_a_message_is_about_to_refer_to_stays(world: OldDays) -> None:
    pool = world.database.pool
    media = await add_media(pool, world.tenant, origin=NETWORK)
    await refer(pool, media, SENT, account=world.account)
    async with pool.acquire() as node, node.transaction():
        await refer(node, media, SENT)
        release = pool.execute("SELECT media_release($1, 100)", world.account)
        released = asyncio.create_task(release, name="release")
        await eventually(lambda: world.value(_WAITS), what="a release that waits for the message")
    await released
    assert not await ended(world, media)


async def test_what_was_uploaded_for_a_purged_account_stays_the_tenants(world: OldDays) -> None:
    media = await add_media(world.database.pool, world.tenant, account=world.account)
    await refer(world.database.pool, media, SENT, account=world.account)
    await purged(world)
    assert not await ended(world, media)
    assert await days_left(world.database.pool, media) is None
