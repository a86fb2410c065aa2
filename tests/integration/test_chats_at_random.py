"""Messages and what is learnt of who is who, in any order, with chats read at any moment: in the end a
person is one chat with all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.content import names_of, person_of
from mesh_session_node.journal import (
    AccountRef,
    ChatChange,
    Committed,
    Event,
    InboundMessage,
    Journal,
    PersonIdentity,
    Row,
)
from mesh_session_node.store.chats import ChatFilter, ChatStore
from sessionmesh.v1.common_pb2 import Person
from tests.support.journal_world import World, open_world

SEEDS = 25
IN, OUT = 2, 1
KINDS = ("phone", "user", "hidden", "username")
"""The one of them under which messages came that is first here is the chat's address."""


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


@dataclass
class Expected:
    """A chat as it is to be in the end."""

    addresses: set[str] = field(default_factory=set)
    unread: int = 0
    last: tuple[int, Any] = (0, None)
    pinned: bool = False

    def take(self, row: InboundMessage | ChatChange) -> None:
        self.addresses.add(row.chat)
        if isinstance(row, ChatChange):
            self.pinned = True
        else:
            self.unread += row.direction == IN
            self.last = max(self.last, (row.network_time or 0, row.id))

    def shown(self) -> tuple[object, ...]:
        address = min(self.addresses, key=lambda one: KINDS.index(one.partition(":")[0]))
        return address, self.addresses, self.unread, self.last[1], self.pinned


def history(dice: Random) -> tuple[list[Row], list[Sequence[str]]]:
    """Messages, changes and what is learnt of some people, in an order that they may come in, and the names
    of each of them that what is learnt connects.
    """
    rows: list[Row] = []
    groups: list[Sequence[str]] = []
    for who in range(4):
        names = [f"{kind}:{'+' if kind == 'phone' else ''}{49000 + who}" for kind in KINDS]
        names = dice.sample(names, dice.randint(1, 4))
        ends = dice.randint(1, len(names))  # what is behind is never connected
        groups += [names[:ends], *([name] for name in names[ends:])]
        rows += [told(dice, one, other, at) for at, (one, other) in enumerate(pairwise(names[:ends]))]
        rows += [message(dice, dice.choice(names)) for _ in range(dice.randint(1, 6))]
        rows += [ChatChange(chat=dice.choice(names), time=1, pinned=True)] * dice.randint(0, 1)
    dice.shuffle(rows)
    ids = iter(sorted(row.id for row in rows if isinstance(row, InboundMessage)))
    for at, row in enumerate(rows):
        if isinstance(row, InboundMessage):  # ids rise as messages come
            rows[at] = InboundMessage(
                next(ids), row.network_id, row.chat, row.content, row.event, row.network_time, row.direction
            )
    return rows, groups


def message(dice: Random, chat: str) -> InboundMessage:
    uuid = new_uuid()
    event = Event(new_uuid(), "message.received", b"")
    sent_at = dice.randrange(1_700_000_000, 1_700_001_000) * 1_000_000
    return InboundMessage(uuid, str(uuid), chat, b"hello", event, sent_at, dice.choice([IN, IN, OUT]))


def told(dice: Random, one: str, other: str, at: int) -> PersonIdentity:
    person = Person()
    for name in (one, other):
        person.MergeFrom(person_of(name))
    first = names_of(person)[0]
    return PersonIdentity(
        first, person.phone, person.user_id, person.hidden_id, person.username, "", 1_700_000_000_000_000 + at
    )


async def test_a_person_is_one_chat_in_whatever_order_all_of_it_comes(world: World) -> None:
    journal = await world.journal("node")
    for seed in range(SEEDS):
        await _check(world, journal, await world.account("node", shard=seed), Random(seed))


async def _check(world: World, journal: Journal, account: AccountRef, dice: Random) -> None:
    chats = ChatStore(world.database.pool)
    rows, groups = history(dice)
    reading = []

    for row in rows:
        assert isinstance(await journal.write(account, row), Committed)
        if dice.random() < 0.4:
            reading.append(asyncio.create_task(chats.fold(account.uuid)))
        if dice.random() < 0.2:
            await asyncio.gather(*reading)
    await asyncio.gather(*reading)
    await chats.fold(account.uuid)

    expected = []
    for names in groups:
        chat = Expected()
        for row in rows:
            if isinstance(row, InboundMessage | ChatChange) and row.chat in names:
                chat.take(row)
        if chat.addresses:
            expected.append(chat.shown())
    found = await chats.page(account.uuid, ChatFilter(show_archived=True), 100)
    as_shown = [
        (one["chat"], {*one["addresses"]}, one["unread"], one["last_message"], one["pinned"]) for one in found
    ]
    assert sorted(as_shown, key=str) == sorted(expected, key=str)
    for one in found:
        for address in one["addresses"]:
            assert await chats.chat(account.uuid, [address]) == one
