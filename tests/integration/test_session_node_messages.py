"""A message's whole life through a real node: accepted, stored, sent, acknowledged, receipted, told."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix, new_id
from mesh_core.rpc.server.status import from_details, from_rpc_error
from mesh_simulator.accounts.account import Behaviour, Refusal
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from sessionmesh.internal.v1 import node_pb2
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, event_pb2, message_pb2, session_pb2
from sessionmesh.v1.common_pb2 import MessageRef
from tests.conftest import Databases, LoopThread
from tests.support.eventually import eventually
from tests.support.session_node_stage import (
    RECIPIENT,
    Account,
    NodeProcess,
    Stage,
    fresh_database,
    open_stage,
    text_request,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One network and one tenant for the whole module: tests make accounts of their own."""
    with fresh_database(databases, server_loop) as url:
        async with open_stage(url, etcd, tmp_path_factory.mktemp("nodes")) as opened:
            yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node()


@pytest.mark.slow
async def test_a_message_is_stored_then_delivered_with_an_event_for_each_step(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)

    message = await stage.send(node, account, "hello")

    assert message.status == message_pb2.MESSAGE_STATUS_QUEUED
    assert message.network_message_id
    assert message.chat == f"phone:{RECIPIENT}"
    # The network's ids of them are in it, too, when its acknowledgement was quicker than the answer
    assert (message.recipient.address, message.recipient.phone) == (f"phone:{RECIPIENT}", RECIPIENT)
    await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)

    async def steps() -> bool:
        types = [type_ for type_, _ in await stage.events(account) if type_.startswith("message.")]
        return types == ["message.queued", "message.sent", "message.delivered"]

    await eventually(steps)
    assert await stage.outbox_is_empty(account)
    await eventually(lambda: stage.records(Kind.RECEIPTS_ACKED, account))


@pytest.mark.parametrize("text", ["a\0b", "\N{PARTY POPPER}", "x" * 65_536], ids=["nul", "emoji", "64 kB"])
async def test_a_text_arrives_as_it_was_sent(stage: Stage, node: NodeProcess, text: str) -> None:
    sender, receiver = await stage.paired(node), await stage.paired(node)
    request = text_request(sender, text)
    request.recipient = receiver.phone

    answer = await node.messages.SendMessage(request, metadata=stage.metadata)

    async def received() -> str | None:
        for type_, body in await stage.events(receiver):
            if type_ == "message.received":
                return event_pb2.Event.FromString(body).message.message.content.text.body
        return None

    assert await eventually(received) == text
    stored = await stage.message(answer.message.id, sender, node)
    assert stored.content.text.body == text


async def test_wait_for_sent_returns_when_the_network_has_the_message(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)

    message = await stage.send(node, account, wait_for=message_pb2.WAIT_FOR_SENT)

    assert message.status == message_pb2.MESSAGE_STATUS_SENT
    assert [record.id for record in stage.records(Kind.ACKED, account)] == [message.network_message_id]


async def test_what_an_answer_says_of_a_sent_message_is_what_the_next_call_finds(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)

    for _ in range(5):
        sent = await stage.send(node, account, wait_for=message_pb2.WAIT_FOR_SENT)
        assert (await stage.message(sent.id, account, node)).status >= sent.status


async def test_a_request_that_was_accepted_is_answered_so_although_the_account_has_logged_out(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    fields: dict[str, Any] = {"request_id": secrets.token_hex(8), "wait_for": message_pb2.WAIT_FOR_SENT}
    first = await stage.send(node, account, **fields)
    log_out = session_pb2.LogoutRequest(account_id=account.id, request_id=secrets.token_hex(8))
    await node.sessions.Logout(log_out, metadata=stage.metadata)

    again = await stage.send(node, account, **fields)

    assert (again.id, again.status) == (first.id, message_pb2.MESSAGE_STATUS_SENT)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.send(node, account, "another text", **fields)
    assert from_rpc_error(refused.value).reason == "NOT_PAIRED"


async def test_a_request_that_was_accepted_is_answered_so_although_it_has_expired(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    end = Timestamp()
    end.FromNanoseconds(time.time_ns() + 1_000_000_000)
    fields: dict[str, Any] = {"request_id": secrets.token_hex(8), "expire_time": end}
    first = await stage.send(node, account, **fields)
    await eventually(lambda: time.time_ns() > end.ToNanoseconds())

    assert (await stage.send(node, account, **fields)).id == first.id
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.send(node, account, expire_time=end)
    assert "expire_time" in from_rpc_error(refused.value).message


async def test_waiting_for_sent_goes_on_with_the_same_request(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    stalled = stage.inject(FaultKind.STALL, account)
    fields: dict[str, Any] = {"request_id": secrets.token_hex(8), "wait_for": message_pb2.WAIT_FOR_SENT}
    request = text_request(account, **fields)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await node.messages.SendMessage(request, metadata=stage.metadata, timeout=0.5)

    again = asyncio.create_task(stage.send(node, account, **fields))
    stage.network.faults.clear(stalled)
    message = await again

    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert message.status >= message_pb2.MESSAGE_STATUS_SENT
    assert len(stage.records(Kind.ACCEPTED, account)) == 1


async def test_a_request_sent_again_acts_once(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request_id = secrets.token_hex(8)

    first = await stage.send(node, account, "hello", request_id=request_id)
    again = await stage.send(node, account, "hello", request_id=request_id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.send(node, account, "another", request_id=request_id)

    for answer in (first, again):
        answer.ClearField("recipient")  # of whom more may be known by now
    assert again == first
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert from_rpc_error(refused.value).reason == "REQUEST_ID_REUSED"
    await stage.until_status(node, account, first.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    assert len(stage.records(Kind.ACCEPTED, account)) == 1


async def test_what_was_not_acknowledged_is_sent_again_and_shown_once(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    losing = stage.inject(FaultKind.LOSE_ACKS, account)
    messages = [await stage.send(node, account, f"message {n}") for n in range(3)]
    await eventually(lambda: len(stage.records(Kind.ACCEPTED, account)) == 3)

    stage.network.faults.clear(losing)
    stage.inject(FaultKind.DROP_CONNECTION, account)

    for message in messages:
        await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    accepted = [record.id for record in stage.records(Kind.ACCEPTED, account)]
    assert accepted == [message.network_message_id for message in messages]
    assert stage.verdict().clean
    assert (await stage.session(node, account)).counters.connects == 2


async def test_messages_wait_in_order_while_the_account_is_offline(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = session_pb2.DisconnectRequest(account_id=account.id)
    await node.sessions.Disconnect(request, metadata=stage.metadata)
    messages = [await stage.send(node, account, f"message {n}") for n in range(5)]
    urgent = await stage.send(node, account, "code 1234", priority=message_pb2.PRIORITY_HIGH)

    connect = session_pb2.ConnectRequest(account_id=account.id)
    await node.sessions.Connect(connect, metadata=stage.metadata)

    await stage.until_status(node, account, messages[-1].id, message_pb2.MESSAGE_STATUS_DELIVERED)
    accepted = [record.id for record in stage.records(Kind.ACCEPTED, account)]
    assert accepted == [message.network_message_id for message in (urgent, *messages)]


async def test_who_waits_for_a_message_is_told_that_it_was_cancelled(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = text_request(account, wait_for=message_pb2.WAIT_FOR_SENT)
    request.schedule_time.GetCurrentTime()
    request.schedule_time.seconds += 3600
    waiting = asyncio.ensure_future(node.messages.SendMessage(request, metadata=stage.metadata))
    listing = message_pb2.ListMessagesRequest(account_id=account.id)

    async def accepted() -> str:
        messages = (await node.messages.ListMessages(listing, metadata=stage.metadata)).messages
        return messages[0].id if messages else ""

    cancel = message_pb2.CancelMessageRequest(account_id=account.id, message_id=await eventually(accepted))
    await node.messages.CancelMessage(cancel, metadata=stage.metadata)
    async with asyncio.timeout(5):
        assert (await waiting).message.status == message_pb2.MESSAGE_STATUS_CANCELLED


@pytest.mark.read_back("CancelMessage")
async def test_a_scheduled_message_can_be_cancelled_until_it_is_due(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = text_request(account)
    request.schedule_time.GetCurrentTime()
    request.schedule_time.seconds += 3600
    message = (await node.messages.SendMessage(request, metadata=stage.metadata)).message
    sent = await stage.send(node, account, wait_for=message_pb2.WAIT_FOR_SENT)

    cancel = message_pb2.CancelMessageRequest(account_id=account.id, message_id=message.id)
    cancelled = (await node.messages.CancelMessage(cancel, metadata=stage.metadata)).message
    too_late = message_pb2.CancelMessageRequest(account_id=account.id, message_id=sent.id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.messages.CancelMessage(too_late, metadata=stage.metadata)

    assert cancelled.status == message_pb2.MESSAGE_STATUS_CANCELLED
    assert from_rpc_error(refused.value).reason == "MESSAGE_STATE"
    await eventually(lambda: stage.outbox_is_empty(account))


@pytest.mark.slow
async def test_a_scheduled_message_is_sent_when_it_is_due_and_an_expired_one_never(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    scheduled = text_request(account, "later")
    scheduled.schedule_time.FromNanoseconds(time.time_ns() + 500_000_000)
    expiring = text_request(account, "too late")
    expiring.schedule_time.FromNanoseconds(time.time_ns() + 1_500_000_000)
    expiring.expire_time.FromNanoseconds(time.time_ns() + 2_600_000_000)
    stage.inject(FaultKind.REFUSE_LOGINS, account)

    later = (await node.messages.SendMessage(scheduled, metadata=stage.metadata)).message
    await stage.until_status(node, account, later.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    stage.inject(FaultKind.DROP_CONNECTION, account)
    late = (await node.messages.SendMessage(expiring, metadata=stage.metadata)).message

    await stage.until_status(node, account, late.id, message_pb2.MESSAGE_STATUS_EXPIRED)
    assert [record.id for record in stage.records(Kind.ACCEPTED, account)] == [later.network_message_id]


async def test_an_unknown_recipient_fails_the_message(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    request = text_request(account, wait_for=message_pb2.WAIT_FOR_SENT)
    request.recipient = "group:no-such-group"

    message = (await node.messages.SendMessage(request, metadata=stage.metadata)).message

    assert message.status == message_pb2.MESSAGE_STATUS_FAILED
    assert message.failure == message_pb2.FAILURE_REASON_UNKNOWN_RECIPIENT


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


async def test_a_refusal_has_the_networks_number(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    refusal_of = Refusal(recipient="", reason=wire.REJECT_REASON_WINDOW_CLOSED, code=131_047)
    stage.on_network(account).behave_as(Behaviour(refusals=(refusal_of,)))

    message = await stage.send(node, account, wait_for=message_pb2.WAIT_FOR_SENT)

    assert message.status == message_pb2.MESSAGE_STATUS_FAILED
    assert (message.failure, message.failure_code) == (message_pb2.FAILURE_REASON_WINDOW_CLOSED, 131_047)


async def refusal(
    node: NodeProcess, request: message_pb2.SendMessageRequest, stage: Stage
) -> tuple[str, str, str]:
    """Code, reason, and field of a refused send."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.messages.SendMessage(request, metadata=stage.metadata)
    error = from_rpc_error(refused.value)
    return refused.value.code().name, error.reason, getattr(error, "field", "")


async def test_bad_input_is_refused_naming_the_field(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    def request(**changes: object) -> message_pb2.SendMessageRequest:
        made = text_request(account)
        for path, value in changes.items():
            target, *rest = path.split("__")
            holder = made
            while rest:
                holder, (target, *rest) = getattr(holder, target), rest
            setattr(holder, target, value)
        return made

    no_recipient = request()
    no_recipient.ClearField("recipient")
    no_content = request()
    no_content.ClearField("content")
    table = [
        (request(account_id="nonsense"), "account_id"),
        (request(account_id=""), "account_id"),
        (request(request_id=""), "request_id"),
        (request(request_id="x" * 65), "request_id"),
        (no_recipient, "recipient"),
        (request(recipient="015112345678"), "recipient"),
        (request(recipient="+49 151 1234"), "recipient"),
        (no_content, "content"),
        (request(content__text__body=""), "content.text.body"),
        (request(content__text__body="x" * 65_537), "content.text.body"),
        (request(content__location__latitude=91.0), "content.location.longitude"),
        (request(content__image__caption="x"), "content.image.media"),
        (request(external_id="x" * 129), "external_id"),
        (request(priority=9), "priority"),
        (request(wait_for=9), "wait_for"),
        (request(schedule_time__seconds=int(time.time()) + 31 * 86_400), "schedule_time"),
        (request(expire_time__seconds=1), "expire_time"),
    ]
    for bad, field in table:
        assert await refusal(node, bad, stage) == ("INVALID_ARGUMENT", "INVALID_FIELD", field)


async def test_accounts_that_are_unknown_foreign_or_unpaired_cannot_send(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.create_account()
    await stage.until_state(node, account, session_pb2.SESSION_STATE_NEW)
    foreign = await stage.of_another_tenant()
    unknown = Account(new_id(Prefix.ACCOUNT), account.uuid, "")

    async def outcome(of: Account) -> tuple[str, str]:
        code, reason, _ = await stage.owned(lambda: refusal_of_owned(node, of, stage))
        return code, reason

    assert await outcome(unknown) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert await outcome(foreign) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert await outcome(account) == ("FAILED_PRECONDITION", "NOT_PAIRED")


async def refusal_of_owned(node: NodeProcess, account: Account, stage: Stage) -> tuple[str, str, str]:
    """As `refusal`, but a node that does not own the account yet may be asked again."""
    try:
        await node.messages.SendMessage(text_request(account), metadata=stage.metadata)
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            raise
        return error.code().name, from_rpc_error(error).reason, ""
    raise AssertionError("it was accepted")


async def test_a_call_routed_by_another_account_than_it_is_about_is_refused(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)

    metadata = (*stage.metadata, ("x-account-id", new_id(Prefix.ACCOUNT)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await node.messages.SendMessage(text_request(account), metadata=metadata)

    assert from_rpc_error(refused.value).reason == "ACCOUNT_MISMATCH"


async def test_a_batch_is_answered_in_its_order_whatever_its_items_are_called(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    texts = "hello", "", "hello", ""
    items = [text_request(account, text, request_id="same") for text in texts]

    batch = node_pb2.AcceptMessagesRequest(messages=items)
    results = (await node.internal.AcceptMessages(batch, metadata=stage.relayed)).results

    assert [result.WhichOneof("outcome") for result in results] == ["message", "error", "message", "error"]


async def test_a_batch_of_messages_is_answered_item_by_item(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    good = [text_request(account, f"message {n}", request_id=f"item-{n}") for n in range(3)]
    bad = text_request(account, "", request_id="bad")

    batch = node_pb2.AcceptMessagesRequest(messages=[*good[:2], bad, good[2]])
    results = (await node.internal.AcceptMessages(batch, metadata=stage.relayed)).results

    accepted = {result.request_id: result.message.id for result in results if result.HasField("message")}
    assert accepted.keys() == {"item-0", "item-1", "item-2"}
    (refused,) = [result for result in results if result.HasField("error")]
    error = from_details(refused.error.SerializeToString())
    assert isinstance(error, InvalidField)
    assert (refused.request_id, error.field) == ("bad", "content.text.body")
    for message_id in accepted.values():
        await stage.until_status(node, account, message_id, message_pb2.MESSAGE_STATUS_DELIVERED)


async def test_over_the_limit_of_a_minute_messages_wait_and_then_the_outbox_is_full(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    limits = '{"send_limits": {"per_minute": 2, "outbox": 3}}'
    await stage.database.execute("UPDATE account SET settings = $1 WHERE id = $2", limits, account.uuid)
    await stage.refresh(node, account)

    sent = [await stage.send(node, account, f"message {n}") for n in range(2)]
    for message in sent:
        await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    for n in range(3):
        await stage.send(node, account, f"waiting {n}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stage.send(node, account, "one too many")

    error = from_rpc_error(refused.value)
    assert (error.reason, refused.value.code()) == ("OUTBOX_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert error.retry_after is not None
    assert len(stage.records(Kind.ACCEPTED, account)) == 2


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
