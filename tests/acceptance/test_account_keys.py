"""For a key that is limited to accounts the tenant's other accounts do not exist, in no method of the mesh.

The methods are those of the protos, so that one that is added later is held to it, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc import StatusCode

import mesh_client  # noqa: F401 - it imports every service's module, so that their descriptors are known
from mesh_router.proxy.routes import SERVICES
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.internal.v1 import node_pb2
from sessionmesh.v1 import (
    account_pb2,
    authorization_pb2,
    common_pb2,
    event_pb2,
    media_pb2,
    message_pb2,
    session_pb2,
    tenant_pb2,
)
from tests.support.mesh_api import Caller, Refusal, Tenant, open_caller, refusal_of, text_message, unique

SCOPES = [authorization_pb2.SCOPE_READ, authorization_pb2.SCOPE_SEND, authorization_pb2.SCOPE_MANAGE]
ANSWER_SECONDS = 20.0
QUIET_SECONDS = 2.0
"""How long a stream is read that need not end."""
BULK = {"BatchSendMessages", "SendMessages", "AcceptMessages"}
"""Methods that answer for each item by itself."""


@dataclass(frozen=True, slots=True)
class World:
    """A tenant with two accounts, and a caller whose key is limited to `mine`."""

    whole: Caller
    limited: Caller
    mine: account_pb2.Account
    other: account_pb2.Account
    message_id: str
    media_id: str

    @property
    def secrets(self) -> list[bytes]:
        """What tells of the other account where it stands in an answer."""
        texts = [self.other.phone, self.other.display_name, self.message_id, self.media_id, "hidden words"]
        return [text.encode() for text in texts]

    async def of_other(self) -> list[bytes]:
        """All that can be read of the other account, by a key that may."""
        caller, account_id = self.whole, self.other.id
        event_filter = event_pb2.ListEventsRequest(account_ids=[account_id], page_size=1000)
        session = await caller(
            caller.sessions.GetSession, session_pb2.GetSessionRequest(account_id=account_id)
        )
        for changing in ("last_heard_time", "update_time"):
            session.session.ClearField(changing)
        answers: list[Message] = [
            session,
            await caller(caller.accounts.GetAccount, account_pb2.GetAccountRequest(account_id=account_id)),
            await caller(
                caller.messages.ListMessages, message_pb2.ListMessagesRequest(account_id=account_id)
            ),
            await caller(caller.media.GetMedia, media_pb2.GetMediaRequest(media_id=self.media_id)),
            *(await caller(caller.events.ListEvents, event_filter)).events,
        ]
        return [answer.SerializeToString(deterministic=True) for answer in answers]


@pytest.fixture
async def world(tenant: Tenant, admin: Caller) -> World:
    whole = tenant.caller
    mine, other = [await whole.new_account(display_name=f"account {unique()}") for _ in range(2)]
    await asyncio.gather(whole.pair(mine, admin), whole.pair(other, admin))
    message = await whole.send(text_message(other.id, "hidden words"))
    await whole.until_delivered(other.id, message.id)
    request = tenant_pb2.CreateApiKeyRequest(
        request_id=unique(), tenant_id=tenant.id, scopes=SCOPES, account_ids=[mine.id]
    )
    limited = whole.with_key((await admin(admin.tenants.CreateApiKey, request)).secret)
    return World(whole, limited, mine, other, message.id, await upload(whole, other.id))


async def upload(caller: Caller, account_id: str) -> str:
    """A file of the account."""
    options = media_pb2.StorageOptions(file_name=f"{unique()}.txt")
    header = media_pb2.UploadHeader(request_id=unique(), account_id=account_id, size_bytes=5, options=options)
    call = caller.media.UploadMedia(metadata=caller.metadata, timeout=ANSWER_SECONDS)
    await call.write(media_pb2.UploadMediaRequest(header=header))
    await call.write(media_pb2.UploadMediaRequest(chunk=b"words"))
    await call.done_writing()
    return str((await call).media.id)


# --- Every method


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended; `frames` are its answers, as many as came."""

    frames: list[bytes]
    refusal: Refusal | None


async def call(channel: grpc.aio.Channel, key: str, method: MethodDescriptor, request: bytes) -> Outcome:
    """Calls any kind of method with one request."""
    kinds: dict[tuple[bool, bool], Any] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    path = f"/{method.containing_service.full_name}/{method.name}"
    sent: Any = iter([request]) if method.client_streaming else request
    begun = kinds[method.client_streaming, method.server_streaming](path)(
        sent,
        metadata=(("authorization", f"Bearer {key}"),),
        timeout=QUIET_SECONDS if method.server_streaming else ANSWER_SECONDS,
    )
    frames: list[bytes] = []
    try:
        if not method.server_streaming:
            return Outcome([await begun], None)
        async for frame in begun:
            frames.append(frame)  # noqa: PERF401 - those before a failure count
    except grpc.aio.AioRpcError as error:
        if error.code() is not StatusCode.DEADLINE_EXCEEDED:
            return Outcome(frames, refusal_of(error))
        assert method.server_streaming, f"no answer of {method.full_name}"
    return Outcome(frames, None)


def methods(*services: str) -> Iterator[MethodDescriptor]:
    for service in services:
        yield from descriptor_pool.Default().FindServiceByName(service).methods


def request_of(method: MethodDescriptor, world: World, *, named: bool) -> bytes:
    """A complete request; `named`: it names the other account and what is its wherever it can."""
    request = message_factory.GetMessageClass(method.input_type)()
    fill(request, world, named=named)
    return bytes(request.SerializeToString())


def fill(message: Message, world: World, *, named: bool) -> None:
    names = {
        "account_id": world.other.id,
        "account_ids": world.other.id,
        "media_id": world.media_id,
        "message_id": world.message_id,
        "recipient": "phone:+4915112345678",
    }
    for field in message.DESCRIPTOR.fields:
        wanted = is_required(field) or (named and (field.name in names or field.name == "header"))
        oneof = field.containing_oneof
        if not wanted or (oneof is not None and message.WhichOneof(oneof.name)):
            continue
        if field.message_type is not None:
            inside = getattr(message, field.name)
            inside = inside.add() if field.is_repeated else inside
            inside.SetInParent()
            fill(inside, world, named=named)
        else:
            value: Any = names.get(field.name, unique()) if is_text(field) else b"x" if is_bytes(field) else 1
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


def is_text(field: Any) -> bool:
    return bool(field.type == FieldDescriptor.TYPE_STRING)


def is_bytes(field: Any) -> bool:
    return bool(field.type == FieldDescriptor.TYPE_BYTES)


def is_required(field: Any) -> bool:
    behavior: Any = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return bool(field_behavior_pb2.REQUIRED in behavior)


def is_about_an_account(method: MethodDescriptor) -> bool:
    parts = [method.input_type, *(field.message_type for field in method.input_type.fields)]
    described = parts if method.client_streaming else parts[:1]
    return any(part is not None and "account_id" in part.fields_by_name for part in described)


def requires_an_account(method: MethodDescriptor) -> bool:
    field = method.input_type.fields_by_name.get("account_id")
    return field is not None and is_required(field)


def check(method: MethodDescriptor, outcome: Outcome, world: World, *, named: bool) -> None:
    """What the outcome must be for a key that is not good for the account."""
    answered = b"".join(outcome.frames)
    if method.name in BULK and outcome.refusal is None:
        results = message_pb2.SendMessagesResponse.FromString(answered).results
        assert {result.error.code for result in results} <= {StatusCode.NOT_FOUND.value[0]}, results
        return
    assert not [secret for secret in world.secrets if secret in answered], method.full_name
    options = method.GetOptions()
    filtered = options.Extensions[authorization_pb2.filtered_by_account]
    refusal = outcome.refusal
    if refusal is None:
        assert filtered, method.full_name
    elif refusal.reason == "NOT_SERVED":
        assert refusal.code is StatusCode.UNIMPLEMENTED
    elif (
        options.Extensions[authorization_pb2.scope] not in SCOPES
        or method.containing_service.file.package == "sessionmesh.internal.v1"
    ):
        assert refusal.reason == "SCOPE_MISSING", (method.full_name, refusal)
    elif filtered or (named and is_about_an_account(method)):
        assert refusal.code in (StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT), (
            method.full_name,
            refusal,
        )
    elif not is_about_an_account(method):
        assert refusal.reason == "SCOPE_MISSING", (method.full_name, refusal)


@pytest.mark.parametrize("named", [True, False], ids=["naming the other account", "naming none"])
async def test_no_method_shows_or_changes_what_is_another_accounts(world: World, named: bool) -> None:
    before = await world.of_other()
    for method in methods(*SERVICES):
        if not named and is_about_an_account(method) and requires_an_account(method):
            continue
        request = request_of(method, world, named=named)
        outcome = await call(world.limited.channel, world.limited.key, method, request)
        check(method, outcome, world, named=named)
    assert await world.of_other() == before


async def test_no_node_that_is_called_directly_does_either(world: World, admin: Caller) -> None:
    before = await world.of_other()
    nodes = (await admin(admin.fleet.ListNodes, fleet_pb2.ListNodesRequest())).nodes
    internal = node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name
    for node in nodes:
        async with open_caller(node.address, world.limited.key) as direct:
            for method in methods(*SERVICES, internal):
                request = request_of(method, world, named=True)
                check(method, await call(direct.channel, direct.key, method, request), world, named=True)
    assert await world.of_other() == before


# --- What the key is good for


async def test_the_keys_own_account_is_served_as_ever(world: World) -> None:
    sent = await world.limited.send(text_message(world.mine.id))
    assert (await world.limited.until_delivered(world.mine.id, sent.id)).id == sent.id
    media_id = await upload(world.limited, world.mine.id)
    request = media_pb2.GetMediaRequest(media_id=media_id)
    assert (await world.limited(world.limited.media.GetMedia, request)).media.id == media_id


async def test_lists_hold_the_keys_accounts_alone(world: World) -> None:
    caller = world.limited
    accounts = await caller(caller.accounts.ListAccounts, account_pb2.ListAccountsRequest())
    assert [account.id for account in accounts.accounts] == [world.mine.id]
    sessions = await caller(caller.sessions.ListSessions, session_pb2.ListSessionsRequest())
    assert [session.account_id for session in sessions.sessions] == [world.mine.id]
    assert [count.count for count in sessions.counts] == [1]
    events = await caller(caller.events.ListEvents, event_pb2.ListEventsRequest(page_size=1000))
    assert {event.account_id for event in events.events} == {world.mine.id}


async def test_a_stream_of_events_tells_of_the_keys_accounts_alone(world: World) -> None:
    caller = world.limited
    request = event_pb2.SubscribeRequest(from_oldest=True, event_types=["message.*"])
    stream = caller.events.Subscribe(request, metadata=caller.metadata, timeout=ANSWER_SECONDS)
    hidden = await world.whole.send(text_message(world.other.id, "hidden words"))
    await world.whole.until_delivered(world.other.id, hidden.id)
    shown = await caller.send(text_message(world.mine.id))
    told: list[Any] = []
    async for frame in stream:
        told += frame.events.events
        if any(event.type == "message.delivered" for event in told):
            break
    stream.cancel()
    assert {event.account_id for event in told} == {world.mine.id}
    assert {event.message_status.message_id for event in told} == {shown.id}


@pytest.mark.read_back("BatchSendMessages")
async def test_of_a_batch_the_keys_items_are_accepted_and_the_others_not_found(world: World) -> None:
    messages = [text_message(world.other.id), text_message(world.mine.id)]
    refused, accepted = await in_a_batch(world, messages)
    assert refused.error.code == StatusCode.NOT_FOUND.value[0]
    assert accepted.message.account_id == world.mine.id


async def in_a_batch(world: World, messages: list[message_pb2.SendMessageRequest]) -> Any:
    request = message_pb2.BatchSendMessagesRequest(messages=messages)
    return (await world.limited(world.limited.messages.BatchSendMessages, request)).results


async def test_a_request_that_names_first_the_one_and_then_the_other_is_about_the_other(world: World) -> None:
    other = message_pb2.SendMessageRequest(account_id=world.other.id).SerializeToString()
    (method,) = [one for one in methods("sessionmesh.v1.MessageService") if one.name == "SendMessage"]
    twice = text_message(world.mine.id).SerializeToString() + other
    outcome = await call(world.limited.channel, world.limited.key, method, twice)
    assert outcome.refusal is not None
    assert outcome.refusal.code is StatusCode.NOT_FOUND


async def test_another_accounts_file_cannot_be_sent(world: World) -> None:
    request = text_message(world.mine.id)
    request.content.document.media.media_id = world.media_id
    request.content.document.file_name = "words.txt"
    refusal = await world.limited.refused(world.limited.messages.SendMessage, request)
    assert refusal.code is StatusCode.NOT_FOUND
    [result] = await in_a_batch(world, [request])
    assert result.error.code == StatusCode.NOT_FOUND.value[0]


async def test_another_accounts_message_cannot_be_answered(world: World) -> None:
    request = text_message(world.mine.id)
    request.options.reply_to.CopyFrom(common_pb2.MessageRef(message_id=world.message_id))
    refusal = await world.limited.refused(world.limited.messages.SendMessage, request)
    assert refusal.code in (StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT)
