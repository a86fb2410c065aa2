"""What the journal stores of the files that messages refer to, and how long they are kept for that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_session_node.journal import COMMITTED, REFUSED, AccountRef, Journal, MediaUse, OutboundMessage
from tests.support.journal_world import World, inbound, open_world, outbound
from tests.support.media_rows import (
    DAY,
    NETWORK,
    RECEIVED,
    REVOKED,
    SENT,
    add_media,
    days_left,
    exists,
    refer,
    set_rule,
)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as made:
        yield made


@pytest.fixture
async def journal(world: World) -> Journal:
    return await world.journal("a")


@pytest.fixture
async def account(world: World, journal: Journal) -> AccountRef:
    return await world.account("a")


def with_file(media: UUID, category: int = SENT, request_id: str = "") -> OutboundMessage:
    message = outbound(request_id)
    values = {name: getattr(message, name) for name in message.__struct_fields__}
    return OutboundMessage(**values | {"media": MediaUse(message.id, media, category)})


async def references(world: World, media: UUID) -> list[tuple[UUID, UUID, int]]:
    rows = await world.database.pool.fetch(
        "SELECT message, account, category FROM media_reference WHERE media = $1", media
    )
    return [tuple(row) for row in rows]


async def test_a_message_refers_to_its_file_in_its_own_commit(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    await set_rule(world.database.pool, account.tenant, SENT, 10 * DAY)
    message = with_file(media)
    assert await journal.accept(account, message) is COMMITTED
    assert await references(world, media) == [(message.id, account.uuid, SENT)]
    left = await days_left(world.database.pool, media)
    assert left is not None
    assert 9.9 < left < 10.1


async def test_a_file_that_was_deleted_meanwhile_fails_nobody(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    gone, kept = with_file(new_uuid()), with_file(media)
    outcomes = await asyncio.gather(journal.accept(account, gone), journal.accept(account, kept))
    assert [*outcomes] == [COMMITTED, COMMITTED]
    assert [message for message, _, _ in await references(world, media)] == [kept.id]
    assert await world.count("media_reference") == 1


async def test_a_file_of_another_tenant_is_not_referred_to(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, new_uuid())
    assert await journal.accept(account, with_file(media)) is COMMITTED
    assert await references(world, media) == []


async def test_what_is_not_stored_refers_to_nothing(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    first = with_file(media, request_id="same")
    await journal.accept(account, first)
    await journal.accept(account, with_file(media, request_id="same"))
    stale = AccountRef(account.uuid, account.tenant, account.shard, account.epoch - 1)
    assert await journal.accept(stale, with_file(media)) is REFUSED
    assert [message for message, _, _ in await references(world, media)] == [first.id]


async def test_a_message_that_is_taken_back_changes_its_category_and_the_end_of_its_file(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant, origin=NETWORK)
    await set_rule(world.database.pool, account.tenant, REVOKED, 2 * DAY)
    came = inbound("n1")
    await journal.write(account, came)
    await journal.write(account, MediaUse(came.id, media, RECEIVED))
    received = await days_left(world.database.pool, media)
    await journal.write(account, MediaUse(came.id, media, REVOKED))
    revoked = await days_left(world.database.pool, media)
    assert received is not None
    assert revoked is not None
    assert received > 29
    assert revoked < 3
    assert [category for _, _, category in await references(world, media)] == [REVOKED]


async def test_the_longest_lived_reference_counts_however_the_others_come(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    await set_rule(world.database.pool, account.tenant, SENT, 5 * DAY)
    came = inbound("n1")
    await journal.write(account, came, MediaUse(came.id, media, RECEIVED))
    await journal.accept(account, with_file(media))
    left = await days_left(world.database.pool, media)
    assert left is not None
    assert left > 29


async def test_a_file_that_many_messages_refer_to_is_not_written_for_each(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    await set_rule(world.database.pool, account.tenant, SENT, 10 * DAY)
    await journal.accept(account, with_file(media))
    version = await world.value("SELECT xmin::text FROM media WHERE id = $1", media)
    for _ in range(3):
        await journal.accept(account, with_file(media))
    assert len(await references(world, media)) == 4
    assert await world.value("SELECT xmin::text FROM media WHERE id = $1", media) == version


async def test_a_file_is_kept_from_when_its_message_is_to_be_sent(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    await set_rule(world.database.pool, account.tenant, SENT, 5 * DAY)
    message = inbound("n1")
    due = await world.value("SELECT (extract(epoch FROM now() + interval '20 days') * 1000000)::bigint")
    await journal.write(account, message, MediaUse(message.id, media, SENT, due))
    left = await days_left(world.database.pool, media)
    assert left is not None
    assert 24.9 < left < 25.1


async def test_a_file_that_is_to_be_deleted_stays_so(
    world: World, journal: Journal, account: AccountRef
) -> None:
    media = await add_media(world.database.pool, account.tenant)
    await world.database.pool.execute(
        "UPDATE media SET ended = true, expire_time = now() WHERE id = $1", media
    )
    await journal.accept(account, with_file(media))
    left = await days_left(world.database.pool, media)
    assert left is not None
    assert left <= 0


async def test_references_go_with_their_file(world: World, account: AccountRef) -> None:
    media = await add_media(world.database.pool, account.tenant)
    await refer(world.database.pool, media, SENT)
    await world.database.pool.execute("DELETE FROM media WHERE id = $1", media)
    assert not await exists(world.database.pool, media)
    assert await world.count("media_reference") == 0
