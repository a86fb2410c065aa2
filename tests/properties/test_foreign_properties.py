"""Whatever the network brings: it is stored once, every consumer can render it, and the network is told."""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_core import addresses
from mesh_session_node.context.presence import Watches
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.drivers.interface.notices import Notice, PresenceShown, TypingShown, UnknownNotice
from mesh_session_node.drivers.simulated.encoding import from_wire
from mesh_session_node.inbound.bounds import MAX_CONTENT, fit, fit_address
from mesh_session_node.inbound.fitting import fit_content, fit_incoming, placeholder
from mesh_session_node.journal import Event, InboundMessage
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import event_pb2, message_pb2, session_pb2
from tests.support.foreign import KINDS, hostile_content, hostile_message, hostile_notice
from tests.support.fuzz.random_requests import Dice
from tests.support.memory_host import OneAccount

seeds = st.integers(0, 2**32)


@given(seeds, st.sampled_from(KINDS))
@settings(max_examples=300)
def test_any_content_can_be_rendered_once_it_is_fit(seed: int, kind: str) -> None:
    fitting = fit_content(hostile_content(str(seed), kind))
    shown = json.loads(json_format.MessageToJson(fitting))
    assert fitting.ByteSize() <= MAX_CONTENT
    assert not [value for value in numbers_of(shown) if not math.isfinite(value)]


@given(seeds, st.sampled_from(KINDS))
@settings(max_examples=100)
def test_what_is_fit_stays_as_it_is(seed: int, kind: str) -> None:
    fitting = fit_content(hostile_content(str(seed), kind))
    before = fitting.SerializeToString(deterministic=True)
    fit(fitting)
    assert fitting.SerializeToString(deterministic=True) == before


@given(seeds)
@settings(max_examples=150)
def test_any_message_is_stored_shown_and_acknowledged(seed: int) -> None:
    asyncio.run(comes_through(hostile_message(seed)))


@given(seeds)
@settings(max_examples=100)
def test_whatever_names_anything_has_a_form_that_is_known(seed: int) -> None:
    came = hostile_message(seed)
    for fitting in (fit_incoming(came), placeholder(came)):
        for address in (fitting.chat, fitting.sender, *fitting.mentions):
            assert addresses.parse("", address) == address
        assert 0 < len(fitting.network_id) <= 128
        assert "\0" not in fitting.network_id


@given(seeds)
@settings(max_examples=150)
def test_any_notice_is_taken_shown_and_acknowledged(seed: int) -> None:
    asyncio.run(is_taken(hostile_notice(seed)))


async def is_taken(notice: Notice) -> None:
    account = OneAccount()
    await account.connected()
    if isinstance(notice, PresenceShown | TypingShown):
        account.session.context.watches = watches = Watches()
        watches.add(fit_address(notice.person), account.host.loop.time())
    account.driver.link.notify(notice, 1)
    await account.settle()
    await account.journal.commit()
    assert account.driver.link.notices_stored == [1]
    assert account.driver.link.ended is None
    told = account.stored(Event)
    of_session = [event for event in told if event.type.startswith("session.")]
    assert len(told) - len(of_session) == (0 if isinstance(notice, UnknownNotice) else 1)
    for event in told:
        assert len(event.body) < 4096
        render(event_pb2.Event.FromString(event.body))
    await account.host.close()


async def comes_through(came: Incoming) -> None:
    account = OneAccount()
    await account.connected()
    account.driver.link.receive(came)
    await account.settle()
    await account.journal.commit()
    assert account.driver.link.acknowledged == [came.network_id]
    assert account.driver.link.ended is None
    for row in account.stored(InboundMessage):
        render(message_pb2.Message.FromString(row.content))
        if row.event is not None:
            render(event_pb2.Event.FromString(row.event.body))
    for event in account.stored(Event):
        render(event_pb2.Event.FromString(event.body))
    await account.host.close()


@given(seeds)
@settings(max_examples=50)
def test_any_restriction_can_be_rendered(seed: int) -> None:
    restriction = session_pb2.Restriction(remaining=seed, detail="\0" * (seed % 5_000))
    restriction.until_time.seconds = (seed - 2**31) * 2**20
    fit(restriction)
    render(restriction)
    assert len(restriction.detail) <= 1024


@given(seeds, st.binary(max_size=40))
@settings(max_examples=200)
def test_any_frame_with_a_message_is_read(seed: int, garbage: bytes) -> None:
    dice = random.Random(seed)
    frame: Any = Dice(str(seed), {}, ("someone",)).message(wire.Inbound.DESCRIPTOR)
    content: Any = Dice(f"content {seed}", {}, ("someone",)).message(wire.Content.DESCRIPTOR)
    if dice.random() < 0.5:
        kind = dice.choice(KINDS)
        body = getattr(hostile_content(str(seed), kind), kind).SerializeToString()
        content.other.kind, content.other.body = kind, body
    raw = content.SerializeToString()
    at = dice.randint(0, len(raw))
    frame.content = raw if dice.random() < 0.7 else raw[:at] + garbage + raw[at:]
    came = from_wire(frame)
    assert came.network_id == frame.id
    fitting = fit_incoming(came)
    render(fitting.content)
    if fitting.edited is not None:
        render(fitting.edited)


def render(message: Message) -> None:
    json_format.MessageToJson(message)


def numbers_of(shown: Any) -> list[float]:
    if isinstance(shown, dict):
        return [number for value in shown.values() for number in numbers_of(value)]
    if isinstance(shown, list):
        return [number for value in shown for number in numbers_of(value)]
    return [float("nan")] if shown in ("NaN", "Infinity", "-Infinity") else []
