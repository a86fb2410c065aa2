"""Whatever the network brings, Postgres takes it, and can say it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from google.protobuf import json_format
from msgspec.structs import replace

from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.context.people import People
from mesh_session_node.store.messages import MessageFilter, MessageStore
from sessionmesh.v1 import event_pb2
from tests.support.eventually import eventually
from tests.support.foreign import hostile_message
from tests.support.journal_world import World, inbound, open_world
from tests.support.memory_host import OneAccount

MESSAGES = 150


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


async def test_a_page_has_what_an_earlier_release_stored_of_strangers(world: World) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    rows = [
        replace(inbound("late", network_time=10**18), content=b""),
        replace(inbound("none"), content=b"\xff no message"),
        replace(inbound("fine"), content=b""),
    ]
    for row in rows:
        await journal.write(account, row)
    stored = await MessageStore(world.database.pool).page(account.uuid, MessageFilter(oldest_first=True), 10)
    shown = [message_of_row("acc_1", People(), row) for row in stored]
    assert [message.network_message_id for message in shown] == ["late", "none", "fine"]
    assert not shown[0].HasField("network_time")
    assert shown[1].content.HasField("unknown")


async def test_every_message_of_a_hostile_network_is_stored_shown_and_acknowledged(world: World) -> None:
    account = OneAccount()
    account.host.messages = cast("Any", MessageStore(world.database.pool))
    await account.connected()
    ref = account.session.context.ref
    account.host.journal = await world.journal("a")
    while await world.give(ref.shard, "a") < ref.epoch:
        pass
    came = [hostile_message(seed) for seed in range(MESSAGES)]
    for one in came:
        account.driver.link.receive(one)
    await eventually(lambda: len(account.driver.link.acknowledged) >= MESSAGES)

    rows = await MessageStore(world.database.pool).page(ref.uuid, MessageFilter(), MESSAGES)
    shown = [message_of_row(account.session.id, People(), row) for row in rows]
    assert len(shown) == await world.count("message") > MESSAGES / 2
    for message in shown:
        json_format.MessageToJson(message)
    for body in await world.database.pool.fetch("SELECT body FROM event"):
        json_format.MessageToJson(event_pb2.Event.FromString(body["body"]))
    await account.host.close()
