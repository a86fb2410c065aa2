"""Every kind of content that is served comes out of event, webhook and listing as it went in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message as ProtoMessage

from mesh_cli.demo.receiver import Receiver
from mesh_session_node.drivers.simulated.driver import SimulatedDriver
from sessionmesh.simnet.v1 import wire_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, content_pb2, event_pb2, media_pb2, message_pb2
from sessionmesh.v1.content_pb2 import Content
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant, unique
from tests.support.sent_contents import (
    ABOUT,
    PARTS,
    SENT,
    as_others_see,
    content,
    kind_of,
    says,
    uploads,
    without_file,
)

RECEIVED = {
    "order": 'order_id: "7" catalog_id: "1" note: "soon" total { currency: "EUR" amount_1000: 3000 } '
    'items { product_id: "2" quantity: 2 price { currency: "EUR" amount_1000: 1500 } }',
    "form_reply": 'message { network_message_id: "FLOW" } form: "flow" body: "Sent" response_json: "{}"',
    "unavailable": "reason: UNAVAILABLE_REASON_VIEW_ONCE",
}
"""A content of each further kind that comes in."""

AMONG_CHANGES = {"revoked"}
"""Kinds that a message becomes."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """What an account gets, in the three ways in which its tenant learns of it."""

    caller: Caller
    account: account_pb2.Account
    receiver: Receiver

    async def events(self, count: int, *types: str) -> list[event_pb2.Event]:
        """The account's events of these types, once there are `count`."""

        async def all_of_them() -> list[event_pb2.Event] | None:
            request = event_pb2.ListEventsRequest(
                account_ids=[self.account.id], event_types=types, page_size=1000
            )
            found: list[event_pb2.Event] = []
            more = True
            while more:
                page = await self.caller(self.caller.events.ListEvents, request)
                found += page.events
                request.cursor, more = page.next_cursor, page.more
            return found if len(found) >= count else None

        events = await eventually(all_of_them, 30, f"{count} events")
        assert len(events) == count
        return events

    async def webhooks(self, events: Iterable[event_pb2.Event]) -> dict[str, event_pb2.Event]:
        """The same events as the webhook's bodies, parsed back, by id."""
        ids = {event.id for event in events}
        await self.receiver.until(lambda came: ids <= {event["id"] for event in came}, 30)
        bodies = self.receiver.received.events
        return {name: json_format.ParseDict(bodies[name], event_pb2.Event()) for name in ids}

    async def listed(self) -> dict[str, message_pb2.Message]:
        """The account's messages by their network ids."""
        request = message_pb2.ListMessagesRequest(account_id=self.account.id, page_size=1000)
        answer = await self.caller(self.caller.messages.ListMessages, request)
        return {message.network_message_id: message for message in answer.messages}


@pytest.fixture
async def other(tenant: Tenant, admin: Caller) -> account_pb2.Account:
    """A second account of the tenant."""
    made = await tenant.caller.new_account()
    await tenant.caller.pair(made, admin)
    return made


@pytest_asyncio.fixture
async def inbox(tenant: Tenant, other: account_pb2.Account) -> AsyncIterator[Inbox]:
    """Of the second account."""
    async with Receiver() as receiver:
        receiver.secret = await tenant.caller.new_endpoint(receiver.url)
        yield Inbox(tenant.caller, other, receiver)


def test_each_kind_is_tried() -> None:
    assert set(SENT) == SimulatedDriver.content_kinds
    every = {field.name for field in Content.DESCRIPTOR.fields}
    assert set(SENT) | set(RECEIVED) | AMONG_CHANGES | {"unknown"} == every


@pytest.mark.read_back("SendMessage", "GetMedia")
async def test_what_one_account_sends_another_gets(
    tenant: Tenant,
    account: account_pb2.Account,
    inbox: Inbox,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("content_kinds", len(SENT))
    files = await uploads(tenant.caller)
    contents = {kind: content(kind, text, files) for kind, text in SENT.items()}
    sent: dict[str, message_pb2.Message] = {}
    for kind, what in contents.items():
        if kind in ABOUT:
            field, about = ABOUT[kind]
            getattr(getattr(what, kind), field).message_id = sent[about].id
        request = message_pb2.SendMessageRequest(
            account_id=account.id,
            request_id=unique(),
            recipient=f"phone:{inbox.account.phone}",
            content=what,
            wait_for=message_pb2.WAIT_FOR_SENT,
        )
        sent[kind] = await tenant.caller.send(request)

    types = "message.received", "message.reaction", "poll.voted"
    events = await inbox.events(len(SENT) + PARTS, *types)
    webhooks = await inbox.webhooks(events)
    await inbox.events(len(files) + PARTS, "media.ready")
    listed = await inbox.listed()
    told = {kind_of(said(event)): event for event in events if not event.message.message.HasField("album")}
    changed: dict[str, Content] = {}
    for kind, what in contents.items():
        event, message = told[kind], listed[sent[kind].network_message_id]
        assert webhooks[event.id] == event, kind
        assert without_file(said(event)) == without_file(message.content), kind
        if not says(message.content, as_others_see(what)):
            changed[kind] = message.content
    record_property("content_kinds_round_trip", len(contents) - len(changed))
    assert changed == {}

    own = Inbox(tenant.caller, account, inbox.receiver)
    for kind, message in (await own.listed()).items():
        if message.HasField("album"):
            continue
        [what] = [contents[name] for name in SENT if sent[name].network_message_id == kind]
        assert says(message.content, what)
    for kind, file in files.items():
        reference = getattr(listed[sent[kind].network_message_id].content, kind).media
        assert (reference.state, reference.sha256) == (content_pb2.MEDIA_STATE_READY, file.sha256), kind
        found = await inbox.caller(
            inbox.caller.media.GetMedia, media_pb2.GetMediaRequest(media_id=reference.media_id)
        )
        assert found.media.account_id == inbox.account.id


async def test_what_somebody_writes_an_account_gets(admin: Caller, inbox: Inbox) -> None:
    raw = {kind: encoded(kind, getattr(content(kind, text), kind)) for kind, text in RECEIVED.items()}
    raw["unknown"] = encoded("hologram", Content())
    ids = {kind: await inject(admin, inbox, encoded=what) for kind, what in raw.items()}
    events = await inbox.events(len(raw), "message.received")
    webhooks, listed = await inbox.webhooks(events), await inbox.listed()
    told = {event.message.message.network_message_id: event for event in events}
    for kind, network_id in ids.items():
        event = told[network_id]
        assert webhooks[event.id] == event, kind
        assert event.message.message.content == listed[network_id].content, kind
        assert kind_of(said(event)) == kind
        if kind != "unknown":
            assert says(said(event), content(kind, RECEIVED[kind])), f"{kind}: {said(event)}"
    assert listed[ids["unknown"]].content.unknown.raw == raw["unknown"]


async def test_what_the_accounts_own_phone_writes_is_told_as_synced(admin: Caller, inbox: Inbox) -> None:
    network_id = await inject(
        admin, inbox, text="from the phone", from_own_device=True, chat="phone:+4915100000007"
    )
    [event] = await inbox.events(1, "message.synced")
    webhooks, listed = await inbox.webhooks([event]), await inbox.listed()
    assert webhooks[event.id] == event
    assert event.message.message.content.text.body == "from the phone"
    assert event.message.message == without_times(listed[network_id], event.message.message)
    assert event.message.message.origin == message_pb2.MESSAGE_ORIGIN_OTHER_DEVICE


async def test_an_answer_repeats_what_it_answers(admin: Caller, inbox: Inbox) -> None:
    quoted = simulator_pb2.QuotedMessage(network_message_id="NEVER-STORED", text="tea?")
    network_id = await inject(admin, inbox, text="yes", quoted=quoted)
    [event] = await inbox.events(1, "message.received")
    webhooks, listed = await inbox.webhooks([event]), await inbox.listed()
    assert webhooks[event.id] == event
    quotation = event.message.message.quoted
    assert (quotation.ref.network_message_id, quotation.content.text.body) == ("NEVER-STORED", "tea?")
    assert listed[network_id].quoted == quotation


def encoded(kind: str, body: ProtoMessage) -> bytes:
    """A content as the network carries kinds that it does not model itself."""
    other = wire_pb2.Other(kind=kind, body=body.SerializeToString())
    return wire_pb2.Content(other=other).SerializeToString()


async def inject(admin: Caller, inbox: Inbox, **fields: Any) -> str:
    """Somebody writes to the account; the message's network id."""
    request = simulator_pb2.InjectMessageRequest(phone=inbox.account.phone, push_name="Ada", **fields)
    if not request.from_own_device:
        request.sender = "phone:+4915100000008"
    return str((await admin(admin.simulator.InjectMessage, request)).network_message_id)


def said(event: event_pb2.Event) -> Content:
    """What an event says that a message says."""
    if event.WhichOneof("payload") == "reaction":
        about, emoji = event.reaction.message, event.reaction.emoji
        return Content(reaction=content_pb2.ReactionContent(message=about, emoji=emoji))
    if event.WhichOneof("payload") == "poll":
        return Content(
            poll_vote=content_pb2.PollVoteContent(poll=event.poll.poll, answers=event.poll.answers)
        )
    return event.message.message.content


def without_times(listed: message_pb2.Message, told: message_pb2.Message) -> message_pb2.Message:
    """A listed message with the times of the told one, which was made before it was stored."""
    made = message_pb2.Message()
    made.CopyFrom(listed)
    for name in ("create_time", "update_time", "network_time"):
        made.ClearField(name)
        if told.HasField(name):
            getattr(made, name).CopyFrom(getattr(told, name))
    return made
