"""A message's whole life through a real node: accepted, stored, sent, acknowledged, receipted, told."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix, new_id
from mesh_core.rpc.server.status import from_details, from_rpc_error
from mesh_simulator.accounts.account import Behaviour, Refusal
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from sessionmesh.internal.v1 import node_pb2
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import event_pb2, message_pb2, session_pb2
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

    assert again.id == first.id
    assert again.status >= message_pb2.MESSAGE_STATUS_SENT
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
