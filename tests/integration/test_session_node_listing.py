"""What a real node has stored of messages, those that it received among them."""

from __future__ import annotations

import secrets
import time
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import InvalidField
from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, event_pb2, message_pb2, session_pb2
from sessionmesh.v1.common_pb2 import MessageRef
from tests.support.eventually import eventually
from tests.support.session_node_stage import (
    RECIPIENT,
    Account,
    NodeProcess,
    Stage,
    text_request,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.slow
async def test_a_received_message_is_stored_once_however_often_it_is_offered(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    stage.inject(FaultKind.DROP_INBOUND_ACKS, account)

    network_id = stage.receive(account, wire.Content(text="good morning"))
    await eventually(lambda: stage.records(Kind.INBOUND_ACK_DROPPED, account))
    stage.inject(FaultKind.DROP_CONNECTION, account)
    await eventually(lambda: len(stage.records(Kind.INBOUND_ACK_DROPPED, account)) == 2)

    listing = message_pb2.ListMessagesRequest(account_id=account.id)
    messages = (await node.messages.ListMessages(listing, metadata=stage.metadata)).messages
    assert [(m.network_message_id, m.content.text.body) for m in messages] == [(network_id, "good morning")]
    assert messages[0].sender.display_name == "Ada"
    assert [type_ for type_, _ in await stage.events(account)].count("message.received") == 1


async def test_what_no_consumer_can_render_comes_through_without_it_over_one_connection(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    body = content_pb2.AppointmentContent(name="Dentist", start_time=Timestamp(seconds=10**15))
    stage.receive(account, wire.Content(other=wire.Other(kind="appointment", body=body.SerializeToString())))
    stage.receive(account, wire.Content(text="x" * 1_000_000))
    await eventually(lambda: len(stage.records(Kind.INBOUND_ACKED, account)) == 2)

    listing = message_pb2.ListMessagesRequest(account_id=account.id)
    text, appointment = (await node.messages.ListMessages(listing, metadata=stage.metadata)).messages
    assert (appointment.content.appointment.name, appointment.content.appointment.HasField("start_time")) == (
        "Dentist",
        False,
    )
    assert len(text.content.text.body.encode()) <= 65_536
    assert text.content.text.body.endswith("x…")
    for _, event in await stage.events(account):
        json_format.MessageToJson(event_pb2.Event.FromString(event))
    assert len(stage.records(Kind.LOGIN, account)) == 1


@pytest.mark.read_back("ListMessages")
async def test_listing_pages_through_an_accounts_messages_newest_first(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    sent = [(await stage.send(node, account, f"message {n}")).id for n in range(5)]

    listed: list[str] = []
    request = message_pb2.ListMessagesRequest(account_id=account.id, page_size=2)
    while True:
        page = await node.messages.ListMessages(request, metadata=stage.metadata)
        listed += [message.id for message in page.messages]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token

    assert listed == sent[::-1]


async def list_ids(stage: Stage, node: NodeProcess, account: Account, **filters: Any) -> list[str]:
    """The ids of the messages that a listing finds."""
    request = message_pb2.ListMessagesRequest(account_id=account.id, **filters)
    answer = await node.messages.ListMessages(request, metadata=stage.metadata)
    return [message.id for message in answer.messages]


async def test_listing_finds_messages_by_reference_chat_labels_and_the_networks_id(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    one = await stage.send(node, account, external_id="order 7", labels={"campaign": "tea", "run": "1"})
    other = await stage.send(node, account, recipient="user:7", labels={"campaign": "tea"})
    network_id = stage.receive(account, wire.Content(text="hello"))
    [inbound] = await eventually(
        lambda: list_ids(stage, node, account, direction=message_pb2.DIRECTION_INBOUND)
    )
    hour = Timestamp(seconds=int(time.time()) - 3600), Timestamp(seconds=int(time.time()) + 3600)
    start, end = hour

    assert await list_ids(stage, node, account, external_id="order 7") == [one.id]
    assert await list_ids(stage, node, account, external_id="order 8") == []
    assert await list_ids(stage, node, account, network_message_id=one.network_message_id) == [one.id]
    assert await list_ids(stage, node, account, network_message_id=network_id) == [inbound]
    assert await list_ids(stage, node, account, network_message_id="UNKNOWN") == []
    assert await list_ids(stage, node, account, chat="user:7") == [other.id]
    assert await list_ids(stage, node, account, chat=RECIPIENT) == [inbound, one.id]
    tea = {"start_time": start, "end_time": end, "labels": {"campaign": "tea"}}
    assert await list_ids(stage, node, account, **tea) == [other.id, one.id]
    assert await list_ids(stage, node, account, **{**tea, "labels": {"campaign": "tea", "run": "1"}}) == [
        one.id
    ]


@pytest.mark.parametrize(
    ("field", "filters"),
    [
        ("labels", {"labels": {"a": "b"}}),
        (
            "labels",
            {"labels": {"a": "b"}, "start_time": Timestamp(), "end_time": Timestamp(seconds=86_401)},
        ),
        ("chat", {"chat": "somebody"}),
        ("statuses[0]", {"statuses": [7]}),
        ("direction", {"direction": 9}),
        ("order", {"order": 9}),
        ("start_time", {"start_time": Timestamp(seconds=253_402_300_800)}),
        ("page_size", {"page_size": 1001}),
        ("external_id", {"external_id": "e" * 129}),
    ],
)
async def test_a_listing_that_cannot_be_is_refused(
    stage: Stage, node: NodeProcess, field: str, filters: dict[str, Any]
) -> None:
    account = await stage.paired(node)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await list_ids(stage, node, account, **filters)
    assert getattr(from_rpc_error(refused.value), "field", "") == field


async def test_a_message_whose_content_has_gone_is_found_and_listed_with_its_status(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    sent = await stage.send(node, account, "hello")
    await stage.until_status(node, account, sent.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    await stage.database.execute(
        "UPDATE message SET content = '', chat = 'hidden:erased' WHERE account = $1", account.uuid
    )
    found = await stage.message(sent.id, account, node)
    assert (found.status, found.chat) == (message_pb2.MESSAGE_STATUS_DELIVERED, "hidden:erased")
    assert found.content.WhichOneof("kind") is None
    request = message_pb2.ListMessagesRequest(account_id=account.id)
    listed = await node.messages.ListMessages(request, metadata=stage.metadata)
    assert [message.id for message in listed.messages] == [sent.id]


@pytest.mark.read_back("GetMessage")
async def test_a_message_is_got_by_any_of_its_ids(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    sent = await stage.send(node, account, external_id="order 7")

    async def got(**ref: Any) -> message_pb2.Message:
        request = message_pb2.GetMessageRequest(account_id=account.id, message=MessageRef(**ref))
        answer: message_pb2.GetMessageResponse = await node.messages.GetMessage(
            request, metadata=stage.metadata
        )
        return answer.message

    for ref in ({"message_id": sent.id}, {"network_message_id": sent.network_message_id}):
        message = await got(**ref)
        assert (message.id, message.external_id) == (sent.id, "order 7")
        assert message.origin == message_pb2.MESSAGE_ORIGIN_API
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await got(message_id=sent.id, network_message_id="ANOTHER")
    assert getattr(from_rpc_error(refused.value), "field", "") == "message.network_message_id"
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await got(network_message_id="ANOTHER")
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_queued_message_says_why_it_waits(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = text_request(account)
    request.schedule_time.FromNanoseconds(time.time_ns() + 3_600_000_000_000)
    scheduled = (await node.messages.SendMessage(request, metadata=stage.metadata)).message
    disconnect = session_pb2.DisconnectRequest(account_id=account.id)
    await node.sessions.Disconnect(disconnect, metadata=stage.metadata)
    waiting = await stage.send(node, account)

    assert (await stage.message(scheduled.id, account, node)).wait_reason == message_pb2.WAIT_REASON_SCHEDULED
    assert (
        await stage.message(waiting.id, account, node)
    ).wait_reason == message_pb2.WAIT_REASON_NOT_CONNECTED


@pytest.mark.read_back("ListReceipts")
async def test_each_members_receipt_is_listed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    members = [f"+49151{number:08}" for number in range(1, 6)]
    stage.network.directory.create_group("tea", "Tea", dict.fromkeys([account.phone, *members], False))
    message = await stage.send(node, account, recipient="group:tea")
    await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)

    async def pages() -> list[list[str]]:
        request = message_pb2.ListReceiptsRequest(
            account_id=account.id, message=MessageRef(message_id=message.id), page_size=2
        )
        found = []
        while True:
            page = await node.messages.ListReceipts(request, metadata=stage.metadata)
            assert all(receipt.status == message_pb2.MESSAGE_STATUS_DELIVERED for receipt in page.receipts)
            found.append([receipt.member.phone for receipt in page.receipts])
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def all_members() -> bool:
        return await pages() == [members[:2], members[2:4], members[4:]]

    await eventually(all_members)


async def test_an_answer_and_a_reaction_arrive_with_what_they_refer_to(
    stage: Stage, node: NodeProcess
) -> None:
    one, other = await stage.paired(node), await stage.paired(node)
    asked = text_request(one, "tea?", recipient=other.phone)
    question = (await node.messages.SendMessage(asked, metadata=stage.metadata)).message
    listing: dict[str, Any] = {"direction": message_pb2.DIRECTION_INBOUND}
    [there] = await eventually(lambda: list_ids(stage, node, other, **listing))
    answer = text_request(other, "yes", recipient=one.phone)
    answer.options.reply_to.message_id = there
    reaction = text_request(other, recipient=one.phone)
    reaction.content.reaction.message.network_message_id = question.network_message_id
    reaction.content.reaction.emoji = "\N{HEAVY BLACK HEART}"

    await node.messages.SendMessage(answer, metadata=stage.metadata)
    await node.messages.SendMessage(reaction, metadata=stage.metadata)

    async def both() -> list[str]:
        found = await list_ids(stage, node, one, **listing)
        return found if len(found) == 2 else []

    came = [await stage.message(message_id, one, node) for message_id in await eventually(both)]
    [quoting] = [message for message in came if message.HasField("quoted")]
    [reacting] = [message for message in came if message.content.HasField("reaction")]
    for ref in (quoting.quoted.ref, reacting.content.reaction.message):
        assert (ref.message_id, ref.from_account) == (question.id, True)
    assert quoting.quoted.content.text.body == "tea?"
    types = [type_ for type_, _ in await stage.events(one)]
    assert "message.reaction" in types


async def test_a_reaction_goes_where_its_message_is(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    sent = await stage.send(node, account)
    reaction = text_request(account, recipient="phone:+4915100000001")
    reaction.content.reaction.message.message_id = sent.id
    reaction.content.reaction.emoji = "\N{HEAVY BLACK HEART}"

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.messages.SendMessage(reaction, metadata=stage.metadata)

    error = from_rpc_error(refused.value)
    assert isinstance(error, InvalidField)
    assert error.field == "content.reaction.message"


async def test_a_message_that_was_never_stored_can_be_answered(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = text_request(account, "yes")
    request.options.reply_to.network_message_id = "LONGAGO"
    code, _, field = await refusal(node, request, stage)
    assert (code, field) == ("INVALID_ARGUMENT", "options.reply_to.chat")

    request = text_request(account, "yes")
    request.options.reply_to.network_message_id = "LONGAGO"
    request.options.reply_to.chat = RECIPIENT
    message = (await node.messages.SendMessage(request, metadata=stage.metadata)).message

    await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)


async def test_what_the_phone_sends_is_synced_and_never_received(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    own = f"phone:{account.phone}"
    content = wire.Content(text="from my phone").SerializeToString()
    message = wire.Inbound(sender=own, chat=f"phone:{RECIPIENT}", content=content, from_me=True)
    stage.network.inbound.offer(stage.on_network(account), message)
    stage.network.flush()

    [synced] = await eventually(lambda: list_ids(stage, node, account))
    shown = await stage.message(synced, account, node)
    assert shown.direction == message_pb2.DIRECTION_OUTBOUND
    assert shown.origin == message_pb2.MESSAGE_ORIGIN_OTHER_DEVICE
    assert shown.status == message_pb2.MESSAGE_STATUS_SENT
    assert (shown.chat, shown.recipient.phone) == (f"phone:{RECIPIENT}", RECIPIENT)
    types = [type_ for type_, _ in await stage.events(account) if type_.startswith("message.")]
    assert types == ["message.synced"]
    assert (await stage.session(node, account)).counters.received == 0


async def test_an_edit_and_then_a_revocation_change_what_is_listed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    network_id = stage.receive(account, wire.Content(text="tea at five"))
    edited = wire.Content(text="tea at six").SerializeToString()
    stage.receive(account, wire.Content(edit=wire.Edit(id=network_id, content=edited)))

    async def shown() -> message_pb2.Message:
        [found] = await list_ids(stage, node, account)
        message: message_pb2.Message = await stage.message(found, account, node)
        return message

    async def is_edited() -> bool:
        ids = await list_ids(stage, node, account)
        return bool(ids) and (await shown()).HasField("edit_time")

    await eventually(is_edited)
    assert (await shown()).content.text.body == "tea at six"
    stage.receive(account, wire.Content(revoke=wire.Revoke(id=network_id)))

    async def is_revoked() -> bool:
        return (await shown()).content.HasField("revoked")

    await eventually(is_revoked)
    assert (await shown()).content.revoked.actor.phone == RECIPIENT
    types = [type_ for type_, _ in await stage.events(account) if type_.startswith("message.")]
    assert types == ["message.received", "message.edited", "message.revoked"]


async def refusal(
    node: NodeProcess, request: message_pb2.SendMessageRequest, stage: Stage
) -> tuple[str, str, str]:
    """Code, reason, and field of a refused send."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.messages.SendMessage(request, metadata=stage.metadata)
    error = from_rpc_error(refused.value)
    return refused.value.code().name, error.reason, getattr(error, "field", "")


async def test_what_comes_for_a_chat_at_once_is_stored_in_its_order(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    first = stage.receive(account, wire.Content(text="first"))
    answers, about = wire.Context(reply_to=first), wire.Reaction(id=first, emoji="+")
    kinds = [
        wire.Content(text="plain"),
        wire.Content(text="answer", context=answers),
        wire.Content(reaction=about),
    ]
    for number in range(30):
        stage.receive(account, kinds[number % 3])

    await eventually(lambda: not stage.on_network(account).inbound)
    said = []
    for type_, body in await stage.events(account):
        event = event_pb2.Event.FromString(body)
        if type_ == "message.received":
            said.append(event.message.message.content.text.body)
        elif type_ == "message.reaction":
            said.append(event.reaction.emoji)
    assert said == ["first", *["plain", "answer", "+"] * 10]


@pytest.mark.parametrize("revoked", [False, True], ids=["edit", "revocation"])
async def test_a_change_that_comes_before_its_message_is_there_when_it_has_come(
    stage: Stage, node: NodeProcess, revoked: bool
) -> None:
    account, network_id = await stage.paired(node), secrets.token_hex(10)
    text = wire.Content(text="how do you do?").SerializeToString()
    change = wire.Content(edit=wire.Edit(id=network_id, content=text))
    if revoked:
        change = wire.Content(revoke=wire.Revoke(id=network_id))
    stage.receive(account, change)
    stage.receive(account, wire.Content(text="how?"), network_id=network_id)

    await eventually(lambda: not stage.on_network(account).inbound)
    listing = message_pb2.ListMessagesRequest(account_id=account.id)
    [message] = (await node.messages.ListMessages(listing, metadata=stage.metadata)).messages
    assert message.network_message_id == network_id
    assert message.HasField("edit_time")
    told = [type_ for type_, _ in await stage.events(account) if type_.startswith("message.")]
    if revoked:
        assert message.content.HasField("revoked")
        assert told == ["message.revoked"]
    else:
        assert message.content.text.body == "how do you do?"
        assert told == ["message.edited", "message.received"]


async def test_who_is_written_to_by_number_is_known_when_they_answer_by_their_hidden_id(
    stage: Stage, node: NodeProcess
) -> None:
    account, number = await stage.paired(node), f"+49157{secrets.randbelow(10**7):07}"
    stage.network.directory.hidden.add(number)
    request = text_request(account)
    request.recipient = f"phone:{number}"
    sent = (await node.messages.SendMessage(request, metadata=stage.metadata)).message
    await stage.until_status(node, account, sent.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    hidden = stage.network.directory.address_of(number)
    answer = wire.Content(text="hello").SerializeToString()
    stage.network.inbound.offer(
        stage.on_network(account), wire.Inbound(sender=hidden, chat=hidden, content=answer)
    )
    await eventually(lambda: not stage.on_network(account).inbound)

    listing = message_pb2.ListMessagesRequest(account_id=account.id)
    came, out = (await node.messages.ListMessages(listing, metadata=stage.metadata)).messages
    assert (came.sender.address, came.sender.phone) == (hidden, number)
    assert (out.recipient.address, out.recipient.hidden_id) == (f"phone:{number}", came.sender.hidden_id)
    [stored] = await stage.database.fetch("SELECT * FROM person_identity WHERE account = $1", account.uuid)
    assert (stored["phone"], f"hidden:{stored['hidden_id']}") == (number, hidden)


async def test_what_an_account_writes_to_itself_is_delivered_and_not_received(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    request = text_request(account)
    request.recipient = account.phone

    sent = (await node.messages.SendMessage(request, metadata=stage.metadata)).message

    await stage.until_status(node, account, sent.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    listing = message_pb2.ListMessagesRequest(account_id=account.id)
    [only] = (await node.messages.ListMessages(listing, metadata=stage.metadata)).messages
    assert only.id == sent.id
    told = {type_ for type_, _ in await stage.events(account)}
    assert told.isdisjoint({"message.received", "message.synced"})
