"""Forwarding, against nodes that are registered in real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mesh_core import ids
from mesh_core.errors import FailedPrecondition, GoingAway, InvalidField, NotOwner
from mesh_core.rpc.account_id import shard_of
from mesh_core.rpc.auth import Role, current_identity
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import (
    media_pb2,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    webhook_pb2,
    webhook_pb2_grpc,
)
from tests.support.eventually import eventually
from tests.support.router_world import (
    ADMIN,
    ADMIN_KEY,
    Node,
    RouterWorld,
    bearer,
    failing,
    message_to_send,
    new_account,
    tenant_key,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls without a deadline wait for half a second."""
    monkeypatch.setattr("mesh_router.proxy.retry.WAIT_WITHOUT_DEADLINE", 0.5)


class Messages(message_pb2_grpc.MessageServiceServicer):
    """Answers with what `answer` does; counts the calls."""

    def __init__(self, answer: Callable[[Any, Any], Any] | None = None) -> None:
        self.calls = 0
        self.seen: dict[str, str | bytes] = {}
        self.remaining: float | None = None
        self._answer = answer

    async def SendMessage(
        self, request: message_pb2.SendMessageRequest, context: Any
    ) -> message_pb2.SendMessageResponse:
        self.calls += 1
        self.seen = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        if self._answer is not None:
            await self._answer(request, context)
        return message_pb2.SendMessageResponse(
            message=message_pb2.Message(id=request.request_id, account_id=request.account_id)
        )

    async def CancelMessage(
        self, request: message_pb2.CancelMessageRequest, context: Any
    ) -> message_pb2.CancelMessageResponse:
        self.calls += 1
        if self._answer is not None:
            await self._answer(request, context)
        return message_pb2.CancelMessageResponse()


class Sessions(session_pb2_grpc.SessionServiceServicer):
    """Streams, and lists."""

    def __init__(self, watch: Callable[[Any, Any], AsyncIterator[Any]] | None = None, name: str = "") -> None:
        self._watch = watch
        self._name = name

    async def WatchSession(
        self, request: session_pb2.WatchSessionRequest, context: Any
    ) -> AsyncIterator[Any]:
        assert self._watch is not None
        async for frame in self._watch(request, context):
            yield frame

    async def ListSessions(
        self, request: session_pb2.ListSessionsRequest, context: Any
    ) -> session_pb2.ListSessionsResponse:
        return session_pb2.ListSessionsResponse(sessions=[session_pb2.Session(node_id=self._name)])


async def message_node(world: RouterWorld, name: str, messages: Messages) -> Node:
    return await world.node(name, {message_pb2_grpc.add_MessageServiceServicer_to_server: messages})


async def session_node(world: RouterWorld, name: str, sessions: Sessions) -> Node:
    return await world.node(name, {session_pb2_grpc.add_SessionServiceServicer_to_server: sessions})


def send(world: RouterWorld, account_id: str, metadata: Any = ADMIN, timeout: float | None = 20) -> Any:
    request = message_to_send(account_id, "r1", labels={"a": "b"})
    return message_pb2_grpc.MessageServiceStub(world.channel).SendMessage(
        request, metadata=metadata, timeout=timeout
    )


def watch(world: RouterWorld, account_id: str, timeout: float | None = 20) -> Any:
    return session_pb2_grpc.SessionServiceStub(world.channel).WatchSession(
        session_pb2.WatchSessionRequest(account_id=account_id), metadata=ADMIN, timeout=timeout
    )


async def seen_by_router(world: RouterWorld, account_id: str, node: str) -> None:
    """Wait until the router has seen who owns the account."""
    request = fleet_pb2.GetPlacementRequest(account_id=account_id)
    async with asyncio.timeout(10):
        while True:
            placement = await world.fleet.GetPlacement(request, metadata=ADMIN)
            if placement.shards[0].node_id == node:
                return


async def test_a_unary_call_reaches_the_owner_and_its_answer_comes_back(world: RouterWorld) -> None:
    messages, others = Messages(), Messages()
    account = new_account()
    await message_node(world, "n2", others)
    await (await message_node(world, "n1", messages)).own(account)
    response = await send(world, account)
    assert (response.message.account_id, response.message.id) == (account, "r1")
    assert (messages.calls, others.calls) == (1, 0)


async def test_what_the_router_does_not_know_passes_through(world: RouterWorld) -> None:
    """Fields of a newer API go through unread."""
    received: list[bytes] = []

    class Raw:
        async def __call__(self, request: bytes, context: Any) -> bytes:
            received.append(request)
            return request + b"\xf8\x3f\x07"

    account = new_account()
    node = await world.node("n1")
    del node
    server = await raw_node(world, "n2", "/sessionmesh.v1.MessageService/GetMessage", Raw())
    await server(account)
    raw = message_pb2.GetMessageRequest(account_id=account).SerializeToString() + b"\xf8\x3f\x05"
    call: Any = world.channel.unary_unary("/sessionmesh.v1.MessageService/GetMessage")
    assert await call(raw, metadata=ADMIN, timeout=20) == raw + b"\xf8\x3f\x07"
    assert received == [raw]


async def raw_node(world: RouterWorld, name: str, path: str, function: Any) -> Callable[[str], Any]:
    """A node that serves bytes on one method; returns what makes it own an account."""
    server = grpc.aio.server()
    _, service, method = path.split("/")

    async def serve(request: bytes, context: Any) -> bytes:
        return bytes(await function(request, context))

    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(serve)})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    world.stack.push_async_callback(server.stop, None)

    async def own(account_id: str) -> None:
        from mesh_core.ownership.keys import ClusterKeys, OwnerKey, OwnerState, encode

        key = OwnerKey(
            incarnation="x", node=name, address=f"127.0.0.1:{port}", state=OwnerState.ACTIVE, epoch=1
        )
        await world.etcd.put(ClusterKeys(world.cluster).owner(ids.shard_of(account_id)), encode(key))

    return own


async def test_differing_accounts_in_body_and_metadata_are_refused(world: RouterWorld) -> None:
    refused = await failing(send(world, new_account(), bearer(ADMIN_KEY, x_account_id=new_account())))
    assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "ACCOUNT_MISMATCH")


@pytest.mark.parametrize("account_id", ["", "acc_nonsense"])
async def test_a_missing_or_malformed_account_is_named(world: RouterWorld, account_id: str) -> None:
    refused = await failing(send(world, account_id))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "account_id")


async def test_a_bad_key_is_refused_before_anything_is_forwarded(world: RouterWorld) -> None:
    account = new_account()
    messages = Messages()
    await (await message_node(world, "n1", messages)).own(account)
    refused = await failing(send(world, account, bearer("smk_" + "0" * 26 + "_" + "x" * 43)))
    assert refused.code is StatusCode.UNAUTHENTICATED
    assert messages.calls == 0


async def test_metadata_and_trace_go_through_and_internal_keys_do_not(world: RouterWorld) -> None:
    account = new_account()
    identities: list[Any] = []

    async def answer(_request: Any, context: Any) -> None:
        identities.append(current_identity())
        await context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing-bin", b"\x00\xff"),))

    messages = Messages(answer)
    await (await message_node(world, "n1", messages)).own(account)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    metadata = [
        *bearer(ADMIN_KEY, x_mine="yes", x_mesh_tenant=ids.new_id(ids.Prefix.TENANT)),
        ("x-mine-bin", b"\x00\x01"),
        ("traceparent", traceparent),
    ]
    call = send(world, account, metadata)
    await call
    assert messages.seen["x-mine"] == "yes"
    assert messages.seen["x-mine-bin"] == b"\x00\x01"
    assert messages.seen["traceparent"] == traceparent
    assert "x-mesh-tenant" not in messages.seen
    assert identities[0].role is Role.ADMIN
    assert ("x-initial", "1") in tuple(await call.initial_metadata())
    assert ("x-trailing-bin", b"\x00\xff") in tuple(await call.trailing_metadata())


async def test_errors_come_back_with_their_details_and_metadata(world: RouterWorld) -> None:
    account = new_account()

    async def answer(_request: Any, context: Any) -> None:
        context.set_trailing_metadata((("x-trailing", "1"),))
        raise InvalidField("content.text.body", "must not be empty")

    await (await message_node(world, "n1", Messages(answer))).own(account)
    call = send(world, account)
    refused = await failing(call)
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "content.text.body")
    assert ("x-trailing", "1") in tuple(await call.trailing_metadata())


async def test_the_deadline_goes_through(world: RouterWorld) -> None:
    account = new_account()
    messages = Messages()
    await (await message_node(world, "n1", messages)).own(account)
    await send(world, account, timeout=7)
    assert messages.remaining is not None
    assert 0 < messages.remaining < 8  # gRPC rounds timeouts up


async def test_a_deadline_that_passes_at_the_node_ends_the_call(world: RouterWorld) -> None:
    account = new_account()
    ended = asyncio.Event()

    async def answer(_request: Any, _context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await (await message_node(world, "n1", Messages(answer))).own(account)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await send(world, account, timeout=0.5)
    assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await ended.wait()


async def test_cancelling_reaches_the_node(world: RouterWorld) -> None:
    account = new_account()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def answer(_request: Any, _context: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await (await message_node(world, "n1", Messages(answer))).own(account)
    call = send(world, account)
    task = asyncio.ensure_future(_outcome(call))
    async with asyncio.timeout(10):
        await begun.wait()
        call.cancel()
        await ended.wait()
    await task


async def _outcome(call: Any) -> BaseException | None:
    try:
        await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
        return error
    return None


async def test_a_server_stream_comes_through_frame_by_frame(world: RouterWorld) -> None:
    account = new_account()
    more = asyncio.Event()

    async def frames(request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse(session=session_pb2.Session(account_id=request.account_id))
        await more.wait()
        yield session_pb2.WatchSessionResponse(session=session_pb2.Session(detail="second"))

    await (await session_node(world, "n1", Sessions(frames))).own(account)
    call = watch(world, account)
    assert (await call.read()).session.account_id == account
    more.set()
    assert (await call.read()).session.detail == "second"
    assert await call.read() is grpc.aio.EOF


async def test_a_stream_that_ends_with_an_error_keeps_it(world: RouterWorld) -> None:
    account = new_account()

    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse()
        raise GoingAway("resume-here")

    await (await session_node(world, "n1", Sessions(frames))).own(account)
    call = watch(world, account)
    await call.read()
    refused = await failing(call.read())
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "GOING_AWAY")
    assert refused.metadata == {"resume_token": "resume-here"}


async def test_cancelling_a_stream_reaches_the_node(world: RouterWorld) -> None:
    account = new_account()
    ended = asyncio.Event()

    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            yield session_pb2.WatchSessionResponse()
            await asyncio.Event().wait()
        finally:
            ended.set()

    await (await session_node(world, "n1", Sessions(frames))).own(account)
    call = watch(world, account)
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_slow_reader_holds_the_node_back(world: RouterWorld) -> None:
    account = new_account()
    written, last = 0, monotonic()

    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        nonlocal written, last
        for _ in range(200):
            yield session_pb2.WatchSessionResponse(session=session_pb2.Session(detail="x" * 100_000))
            written, last = written + 1, monotonic()

    await (await session_node(world, "n1", Sessions(frames))).own(account)
    call = watch(world, account)
    await call.read()
    # Nothing is read any more: the buffers on the way fill up, far below the stream's 20 MB.
    await eventually(lambda: monotonic() - last > 1.0, what="a second without a frame")
    assert written < 150
    rest = 0
    while await call.read() is not grpc.aio.EOF:
        rest += 1
    assert rest == 199


async def test_a_client_stream_goes_to_a_media_instance(world: RouterWorld) -> None:
    class Media(media_pb2_grpc.MediaServiceServicer):
        async def UploadMedia(self, requests: AsyncIterator[Any], context: Any) -> Any:
            parts = [frame async for frame in requests]
            size = sum(len(frame.chunk) for frame in parts)
            return media_pb2.UploadMediaResponse(
                media=media_pb2.Media(id=parts[0].header.request_id, size_bytes=size)
            )

    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: Media()})
    call = media_pb2_grpc.MediaServiceStub(world.channel).UploadMedia(metadata=ADMIN, timeout=20)
    header = media_pb2.UploadHeader(request_id="r1", size_bytes=250_000)
    await call.write(media_pb2.UploadMediaRequest(header=header))
    for _ in range(5):
        await call.write(media_pb2.UploadMediaRequest(chunk=b"x" * 50_000))
    await call.done_writing()
    response = await call
    assert (response.media.id, response.media.size_bytes) == ("r1", 250_000)


@pytest.mark.slow
async def test_an_upload_refused_midway_ends_with_the_refusal(world: RouterWorld) -> None:
    class Media(media_pb2_grpc.MediaServiceServicer):
        async def UploadMedia(self, requests: AsyncIterator[Any], context: Any) -> Any:
            await anext(requests)
            raise FailedPrecondition("no", "MEDIA_NOT_READY")

    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: Media()})

    async def frames() -> AsyncIterator[Any]:
        for _ in range(20):  # it goes on after the refusal, and ends while it is read out
            yield media_pb2.UploadMediaRequest(chunk=b"x")
            await asyncio.sleep(0.01)

    stub = media_pb2_grpc.MediaServiceStub(world.channel)
    refused = await failing(stub.UploadMedia(frames(), metadata=ADMIN, timeout=20))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "MEDIA_NOT_READY")


@pytest.mark.usefixtures("impatient")
async def test_without_an_instance_the_call_says_so(world: RouterWorld) -> None:
    stub = media_pb2_grpc.MediaServiceStub(world.channel)
    refused = await failing(stub.GetMedia(media_pb2.GetMediaRequest(), metadata=ADMIN))
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "NO_INSTANCE")
    assert refused.metadata == {"service": "media"}
    assert refused.retry_after > 0


async def test_listing_sessions_goes_to_any_node_and_around_a_dead_one(world: RouterWorld) -> None:
    for name in ("n1", "n2", "n3"):
        node = await session_node(world, name, Sessions(name=name))
    await node.kill()
    stub = session_pb2_grpc.SessionServiceStub(world.channel)
    seen = set()
    for _ in range(6):
        response = await stub.ListSessions(session_pb2.ListSessionsRequest(), metadata=ADMIN, timeout=20)
        seen.add(response.sessions[0].node_id)
    assert seen == {"n1", "n2"}


async def test_a_call_waits_for_an_owner(world: RouterWorld) -> None:
    account = new_account()
    node = await message_node(world, "n1", Messages())
    call = asyncio.ensure_future(_outcome(send(world, account)))
    done, _ = await asyncio.wait([call], timeout=0.3)
    assert not done
    await node.own(account)
    assert await call is None


@pytest.mark.slow
async def test_without_an_owner_the_call_ends_within_its_deadline(world: RouterWorld) -> None:
    refused = await failing(send(world, new_account(), timeout=2))
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "NOT_OWNER")
    assert refused.retry_after > 0


@pytest.mark.usefixtures("impatient")
async def test_without_an_owner_or_a_deadline_the_call_ends_too(world: RouterWorld) -> None:
    refused = await failing(send(world, new_account(), timeout=None))
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "NOT_OWNER")
    assert refused.retry_after > 0


async def test_a_call_refused_by_a_former_owner_goes_to_the_new_one(world: RouterWorld) -> None:
    account = new_account()
    refused = asyncio.Event()

    async def answer(_request: Any, _context: Any) -> None:
        refused.set()
        raise NotOwner("n2", 2)

    former, present = Messages(answer), Messages()
    await (await message_node(world, "n1", former)).own(account, epoch=1)
    successor = await message_node(world, "n2", present)
    call = asyncio.ensure_future(_outcome(send(world, account)))
    async with asyncio.timeout(10):
        await refused.wait()
    await successor.own(account, epoch=2)
    assert await call is None
    assert present.calls == 1


async def test_refusals_without_end_are_passed_on(world: RouterWorld) -> None:
    account = new_account()

    async def answer(_request: Any, _context: Any) -> None:
        raise NotOwner()

    messages = Messages(answer)
    await (await message_node(world, "n1", messages)).own(account)
    refused = await failing(send(world, account, timeout=1))
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "NOT_OWNER")
    assert 1 < messages.calls < 30


async def test_a_caller_hardly_notices_a_killed_node(world: RouterWorld) -> None:
    account = new_account()
    begun = asyncio.Event()

    async def answer(_request: Any, _context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    first, second = Messages(answer), Messages()
    dying = await message_node(world, "n1", first)
    await dying.own(account, epoch=1)
    successor = await message_node(world, "n2", second)
    call = asyncio.ensure_future(_outcome(send(world, account)))
    async with asyncio.timeout(10):
        await begun.wait()
    await dying.kill()
    await successor.own(account, epoch=2)
    assert await call is None
    assert (first.calls, second.calls) == (1, 1)


@pytest.mark.slow
async def test_a_call_to_a_node_that_fell_silent_goes_to_whoever_took_over(world: RouterWorld) -> None:
    account = new_account()
    begun = asyncio.Event()

    async def hang(_request: Any, _context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    first, second = Messages(hang), Messages()
    silent = await message_node(world, "n1", first)
    await silent.own(account, epoch=1)
    successor = await message_node(world, "n2", second)
    call = asyncio.ensure_future(_outcome(send(world, account)))
    async with asyncio.timeout(10):
        await begun.wait()
    await silent.unregister()
    await successor.own(account, epoch=2)
    assert await call is None
    assert (first.calls, second.calls) == (1, 1)


async def test_what_must_not_be_done_twice_is_not_sent_twice(world: RouterWorld) -> None:
    begun = asyncio.Event()
    calls = 0

    class Webhooks(webhook_pb2_grpc.WebhookServiceServicer):
        async def TestEndpoint(self, _request: Any, _context: Any) -> Any:
            nonlocal calls
            calls += 1
            begun.set()
            await asyncio.Event().wait()

    add = webhook_pb2_grpc.add_WebhookServiceServicer_to_server
    dying = await world.instance("webhook", {add: Webhooks()})
    stub = webhook_pb2_grpc.WebhookServiceStub(world.channel)
    request = webhook_pb2.TestEndpointRequest(endpoint_id="whe_1")
    call = asyncio.ensure_future(_outcome(stub.TestEndpoint(request, metadata=ADMIN, timeout=20)))
    async with asyncio.timeout(10):
        await begun.wait()
    await dying.kill()
    error = await call
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() is StatusCode.UNAVAILABLE
    assert calls == 1


async def test_a_stream_not_yet_begun_goes_to_the_new_owner(world: RouterWorld) -> None:
    account = new_account()
    refused = asyncio.Event()

    async def refuse(_request: Any, _context: Any) -> AsyncIterator[Any]:
        refused.set()
        raise NotOwner("n2", 2)
        yield

    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse(session=session_pb2.Session(detail="here"))

    await (await session_node(world, "n1", Sessions(refuse))).own(account)
    successor = await session_node(world, "n2", Sessions(frames))
    call = watch(world, account)
    reading = asyncio.ensure_future(call.read())
    async with asyncio.timeout(10):
        await refused.wait()
    await successor.own(account, epoch=2)
    assert (await reading).session.detail == "here"


@pytest.mark.usefixtures("impatient")
async def test_a_stream_without_an_owner_or_a_deadline_ends_too(world: RouterWorld) -> None:
    refused = await failing(watch(world, new_account(), timeout=None).read())
    assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "NOT_OWNER")


async def test_a_stream_waits_for_an_owner_without_a_deadline_too(world: RouterWorld) -> None:
    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse(session=session_pb2.Session(detail="here"))

    account = new_account()
    node = await session_node(world, "n1", Sessions(frames))
    reading = asyncio.ensure_future(watch(world, account, timeout=None).read())
    done, _ = await asyncio.wait([reading], timeout=0.3)
    assert not done
    await node.own(account)
    assert (await reading).session.detail == "here"


async def test_a_stream_opened_at_a_draining_node_goes_to_whoever_takes_over(world: RouterWorld) -> None:
    account = new_account()
    refused = asyncio.Event()

    async def refuse(_request: Any, _context: Any) -> AsyncIterator[Any]:
        refused.set()
        raise GoingAway
        yield

    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse(session=session_pb2.Session(detail="here"))

    await (await session_node(world, "n1", Sessions(refuse))).own(account)
    successor = await session_node(world, "n2", Sessions(frames))
    reading = asyncio.ensure_future(watch(world, account).read())
    async with asyncio.timeout(10):
        await refused.wait()
    await successor.own(account, epoch=2)
    assert (await reading).session.detail == "here"


async def test_an_open_stream_whose_node_loses_the_account_is_told_to_come_again(world: RouterWorld) -> None:
    account = new_account()
    moved = asyncio.Event()

    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse()
        await moved.wait()
        raise NotOwner

    await (await session_node(world, "n1", Sessions(frames))).own(account)
    call = watch(world, account)
    await call.read()
    moved.set()
    ended = await failing(call.read())
    assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "GOING_AWAY")


async def test_an_open_stream_whose_node_dies_is_told_to_come_again(world: RouterWorld) -> None:
    async def frames(_request: Any, _context: Any) -> AsyncIterator[Any]:
        yield session_pb2.WatchSessionResponse()
        await asyncio.Event().wait()

    account = new_account()
    node = await session_node(world, "n1", Sessions(frames))
    await node.own(account)
    call = watch(world, account)
    await call.read()
    await node.kill()
    ended = await failing(call.read())
    assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "GOING_AWAY")


async def test_an_unknown_service_is_not_served(world: RouterWorld) -> None:
    call: Any = world.channel.unary_unary("/other.v1.Service/Method")
    refused = await failing(call(b"", metadata=ADMIN))
    assert (refused.code, refused.reason) == (StatusCode.UNIMPLEMENTED, "NOT_SERVED")


async def test_reflection_lists_forwarded_services_too(world: RouterWorld) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo()
    await call.write(request)
    names = {service.name for service in (await call.read()).list_services_response.service}
    await call.done_writing()
    assert {
        "sessionmesh.v1.AccountService",
        "sessionmesh.v1.MessageService",
        "sessionmesh.v1.MediaService",
        "sessionmesh.simulator.v1.SimulatorService",
    } <= names


@pytest.mark.read_back("GetPlacement", "ListNodes")
async def test_placement_and_nodes_are_what_etcd_says(world: RouterWorld) -> None:
    account = new_account()
    await (await message_node(world, "n1", Messages())).own(account, epoch=3)
    await seen_by_router(world, account, "n1")
    placement = await world.fleet.GetPlacement(fleet_pb2.GetPlacementRequest(node_id="n1"), metadata=ADMIN)
    assert [(shard.shard, shard.epoch, shard.incarnation) for shard in placement.shards] == [
        (shard_of(account), 3, "n1-1")
    ]
    assert placement.unowned == ids.SHARDS - 1
    nodes = (await world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)).nodes
    assert [(node.id, node.capacity, node.shards) for node in nodes] == [("n1", 100, 1)]
    capacity = await world.fleet.GetCapacity(fleet_pb2.GetCapacityRequest(), metadata=ADMIN)
    assert (capacity.max, capacity.active, capacity.available) == (100, 0, 100)


async def test_the_fleet_is_for_operators(world: RouterWorld) -> None:
    tenants = bearer(await tenant_key(world))
    refused = await failing(world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=tenants))
    assert refused.reason == "SCOPE_MISSING"
