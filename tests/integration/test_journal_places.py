"""Contents that change beneath the journal: what was emptied, and places of messages that came late."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_session_node.journal import ContentUpdate, Event, InboundMessage, InPlace
from tests.support.journal_world import World, open_world

IN, OUT = 2, 1
OTHER_DEVICE = 2
SENT = 30


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


def place(chat: str = "phone:+1") -> InboundMessage:
    """What a change that came before its message has stored."""
    event = Event(new_uuid(), "message.edited", b"edited")
    return InboundMessage(new_uuid(), "n1", chat, b"edited", event)


def filled(message: UUID, content: bytes = b"hello") -> InPlace:
    """The message, which the account wrote to another chat by another device."""
    return InPlace(message, "phone:+2", content, 9_000_000, OUT, SENT)


async def stored(world: World) -> tuple[object, ...]:
    [row] = await world.database.pool.fetch("SELECT * FROM message")
    return row["chat"], row["content"], row["direction"], row["origin"], row["status"]


async def test_a_message_takes_its_place_whole(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    before = place()
    await journal.write(account, before, ContentUpdate(before.id, b"edited", 5_000_000))
    await journal.write(account, filled(before.id))
    assert await stored(world) == ("phone:+2", b"hello", OUT, OTHER_DEVICE, SENT)
    [row] = await world.database.pool.fetch("SELECT network_time, edit_time FROM message")
    assert (row["network_time"].timestamp(), row["edit_time"]) == (9, None)


async def test_a_message_that_took_its_place_is_no_place_any_more(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    before = place()
    await journal.write(account, before)
    await journal.write(account, filled(before.id))
    await journal.write(account, filled(before.id, b"another"))
    assert (await stored(world))[1] == b"hello"


async def test_a_place_that_was_emptied_stays_empty(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    before = place()
    await journal.write(account, before)
    await world.database.pool.execute("UPDATE message SET content = ''")
    await journal.write(account, filled(before.id))
    assert await stored(world) == ("phone:+1", b"", IN, 0, 0)


async def test_a_message_that_was_emptied_gets_no_content_again(world: World) -> None:
    journal, account = await world.journal("a"), await world.account("a")
    message = place()
    await journal.write(account, message)
    await world.database.pool.execute("UPDATE message SET content = ''")
    await journal.write(account, ContentUpdate(message.id, b"edited again", 9_000_000))
    [row] = await world.database.pool.fetch("SELECT content, edit_time FROM message")
    assert (row["content"], row["edit_time"]) == (b"", None)
