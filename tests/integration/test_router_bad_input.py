"""Requests that are wrong, too large or forged, and servers that are stuck: what the router makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from mesh_core.rpc.options import METADATA_BYTES, STREAMED_FRAME_BYTES
from sessionmesh.v1 import (
    media_pb2,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from tests.support.eventually import eventually
from tests.support.relay import relay_to
from tests.support.router_world import (
    ADMIN,
    Node,
    RouterWorld,
    failing,
    message_to_get,
    message_to_send,
    new_account,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM_FOR_OTHERS = 1_500
"""Bytes of metadata that credentials and gRPC itself need."""
MANY = 200


class Messages(message_pb2_grpc.MessageServiceServicer):
    """Answers at once, but for accounts in `stuck`. Does not serve CancelMessage."""

    def __init__(self) -> None:
        self.seen: dict[str, str | bytes] = {}
        self.calls = 0
        self.stuck: set[str] = set()

    async def GetMessage(self, request: Any, context: Any) -> Any:
        return await self._answer(request, context, message_pb2.GetMessageResponse())

    async def ListMessages(self, request: Any, context: Any) -> Any:
        return await self._answer(request, context, message_pb2.ListMessagesResponse())

    async def _answer(self, request: Any, context: Any, response: Any) -> Any:
        self.calls += 1
        self.seen = dict(context.invocation_metadata())
        if request.account_id in self.stuck:
            await asyncio.Event().wait()
        return response


class Sessions(session_pb2_grpc.SessionServiceServicer):
    """One frame."""

    def __init__(self) -> None:
        self.seen: dict[str, str | bytes] = {}

    async def WatchSession(self, _request: Any, context: Any) -> AsyncIterator[Any]:
        self.seen = dict(context.invocation_metadata())
        yield session_pb2.WatchSessionResponse()


class Media(media_pb2_grpc.MediaServiceServicer):
    """Tells how large an upload was, and sends downloads of one frame of the size that was asked for."""

    async def UploadMedia(self, requests: AsyncIterator[Any], _context: Any) -> Any:
        size = sum([len(frame.chunk) async for frame in requests])
        return media_pb2.UploadMediaResponse(media=media_pb2.Media(size_bytes=size))

    async def DownloadMedia(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        yield media_pb2.DownloadMediaResponse(chunk=b"x" * request.offset_bytes)


async def serving(world: RouterWorld, name: str = "n1") -> tuple[Node, Messages, Sessions]:
    messages, sessions = Messages(), Sessions()
    node = await world.node(
        name,
        {
            message_pb2_grpc.add_MessageServiceServicer_to_server: messages,
            session_pb2_grpc.add_SessionServiceServicer_to_server: sessions,
        },
    )
    return node, messages, sessions


async def owning(world: RouterWorld, name: str = "n1") -> tuple[str, Messages, Sessions]:
    """An account, and who serves it."""
    account = new_account()
    node, messages, sessions = await serving(world, name)
    await node.own(account)
    return account, messages, sessions


def get(world: RouterWorld, account: str, metadata: Any = (), timeout: float = 20) -> Any:
    """A call that shares a stream with others on its way."""
    stub = message_pb2_grpc.MessageServiceStub(world.channel)
    request = message_to_get(account)
    return stub.GetMessage(request, metadata=[*ADMIN, *metadata], timeout=timeout)


def page(world: RouterWorld, account: str, metadata: Any = (), timeout: float = 20) -> Any:
    """A call that travels by itself."""
    stub = message_pb2_grpc.MessageServiceStub(world.channel)
    request = message_pb2.ListMessagesRequest(account_id=account)
    return stub.ListMessages(request, metadata=[*ADMIN, *metadata], timeout=timeout)


def watch(world: RouterWorld, account: str, metadata: Any = (), timeout: float = 20) -> Any:
    """A stream's first frame."""
    stub = session_pb2_grpc.SessionServiceStub(world.channel)
    request = session_pb2.WatchSessionRequest(account_id=account)
    return stub.WatchSession(request, metadata=[*ADMIN, *metadata], timeout=timeout).read()


CALLS = [get, page, watch]


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_without_an_account_is_told_what_is_missing(world: RouterWorld, call: Any) -> None:
    error = await refused(call(world, ""))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert error.details() == "account_id: is required"


@pytest.mark.parametrize("call", CALLS)
async def test_an_account_in_the_metadata_must_be_that_of_the_request(world: RouterWorld, call: Any) -> None:
    error = await failing(call(world, new_account(), [("x-account-id", new_account())]))
    assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "ACCOUNT_MISMATCH")


async def test_what_a_node_does_not_serve_the_node_refuses(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_router.proxy.retry.WAIT_WITHOUT_DEADLINE", 0.5)
    account, _, _ = await owning(world)
    request = message_pb2.CancelMessageRequest(account_id=account)
    stub = message_pb2_grpc.MessageServiceStub(world.channel)
    error = await failing(stub.CancelMessage(request, metadata=ADMIN, timeout=20))
    assert (error.code, error.reason) == (StatusCode.UNIMPLEMENTED, "NOT_SERVED")
    # Nobody owns another account, so nobody can say whether it is served there.
    request = message_pb2.CancelMessageRequest(account_id=new_account())
    error = await failing(stub.CancelMessage(request, metadata=ADMIN))
    assert (error.code, error.reason) == (StatusCode.UNAVAILABLE, "NOT_OWNER")


@pytest.mark.parametrize("path", ["/sessionmesh.v1.MessageService/Juggle", "/sessionmesh.v9.Circus/Juggle"])
async def test_what_nobody_knows_is_refused_without_asking_who_calls(world: RouterWorld, path: str) -> None:
    call: Any = world.channel.unary_unary(path)
    error = await failing(call(b"", timeout=20))
    assert (error.code, error.reason) == (StatusCode.UNIMPLEMENTED, "NOT_SERVED")


@pytest.mark.parametrize("call", CALLS)
async def test_metadata_up_to_the_limit_reach_the_node(world: RouterWorld, call: Any) -> None:
    account, messages, sessions = await owning(world)
    large = "x" * (METADATA_BYTES - ROOM_FOR_OTHERS)
    await call(world, account, [("x-large", large)])
    assert (messages.seen or sessions.seen)["x-large"] == large


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
async def test_metadata_above_the_limit_are_refused_and_the_connection_stays(
    world: RouterWorld, call: Any
) -> None:
    account, _, _ = await owning(world)
    for size in (METADATA_BYTES + 1, 2 * METADATA_BYTES, 8 * METADATA_BYTES):
        error = await refused(call(world, account, [("x-large", "x" * size)]))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    await call(world, account)


@pytest.mark.parametrize("call", CALLS)
async def test_keys_of_the_mesh_and_epochs_from_outside_do_not_reach_the_node(
    world: RouterWorld, call: Any
) -> None:
    account, messages, sessions = await owning(world)
    forged = [
        ("x-mesh-hops", "1"),
        ("x-mesh-tenant", "ten_x"),
        ("x-mesh-relayed", "yes"),
        ("x-google-rls-data", "epoch=999999"),
    ]
    await call(world, account, [*forged, ("x-mine", "yes")])
    seen = messages.seen or sessions.seen
    assert seen["x-mine"] == "yes"
    own = {("x-mesh-relayed", seen.get("x-mesh-relayed"))} - {*forged}
    assert {key for key in seen if key.startswith("x-mesh-")} <= {key for key, _ in own}
    assert "x-google-rls-data" not in seen


async def test_a_request_above_the_limit_is_refused(world: RouterWorld) -> None:
    account, messages, _ = await owning(world)
    stub = message_pb2_grpc.MessageServiceStub(world.channel)
    request = message_to_send(account, "r1", external_id="x" * (9 * 1024 * 1024))
    error = await refused(stub.SendMessage(request, metadata=ADMIN, timeout=20))
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert messages.calls == 0


async def test_an_answer_above_the_limit_is_refused(world: RouterWorld) -> None:
    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: Media()})
    stub = media_pb2_grpc.MediaServiceStub(world.channel)
    request = media_pb2.DownloadMediaRequest(media_id="med_1", offset_bytes=9 * 1024 * 1024)
    error = await refused(stub.DownloadMedia(request, metadata=ADMIN, timeout=20).read())
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("size", [STREAMED_FRAME_BYTES + 1, 9 * 1024 * 1024])
@pytest.mark.parametrize("before", [0, 3])
async def test_an_upload_with_a_frame_above_the_limit_is_refused(
    world: RouterWorld, before: int, size: int
) -> None:
    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: Media()})

    async def frames() -> AsyncIterator[Any]:
        for _ in range(before):
            yield media_pb2.UploadMediaRequest(chunk=b"x" * 1000)
        yield media_pb2.UploadMediaRequest(chunk=b"x" * size)

    upload = media_pb2_grpc.MediaServiceStub(world.channel).UploadMedia(frames(), metadata=ADMIN, timeout=20)
    error = await refused(upload)
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_the_largest_chunk_of_an_upload_passes(world: RouterWorld) -> None:
    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: Media()})

    async def frames() -> AsyncIterator[Any]:
        for _ in range(3):
            yield media_pb2.UploadMediaRequest(chunk=b"x" * 1024 * 1024)

    upload = media_pb2_grpc.MediaServiceStub(world.channel).UploadMedia(frames(), metadata=ADMIN, timeout=20)
    assert (await upload).media.size_bytes == 3 * 1024 * 1024


@pytest.mark.parametrize("call", CALLS)
async def test_many_calls_that_hang_on_one_account_hold_nobody_else_up(world: RouterWorld, call: Any) -> None:
    node, messages, _ = await serving(world)
    stuck, neighbour = new_account(), new_account()
    await node.own(stuck)
    await node.own(neighbour)
    elsewhere, _, _ = await owning(world, "n2")
    messages.stuck.add(stuck)
    hanging = [asyncio.ensure_future(each(world, stuck)) for each in (get, page) for _ in range(MANY)]
    await eventually(lambda: messages.calls == 2 * MANY)
    for account in (neighbour, elsewhere):
        await served_meanwhile(call, world, account, hanging)
    await ended(hanging)


@pytest.mark.parametrize("call", CALLS)
async def test_a_node_that_answers_nothing_holds_up_no_calls_to_others(world: RouterWorld, call: Any) -> None:
    elsewhere, _, _ = await owning(world, "n2")
    async with relay_to("127.0.0.1:1") as relay:
        messages, stuck = Messages(), new_account()
        add = message_pb2_grpc.add_MessageServiceServicer_to_server
        await (await world.node("n1", {add: messages}, relay=relay)).own(stuck)
        await page(world, stuck)
        relay.hold()
        hanging = [asyncio.ensure_future(page(world, stuck)) for _ in range(MANY)]
        await served_meanwhile(call, world, elsewhere, hanging)
        await ended(hanging)


async def served_meanwhile(
    call: Any, world: RouterWorld, account: str, hanging: list[asyncio.Future[Any]]
) -> None:
    """Calls that end before those that hang, so they cannot have waited for them."""
    for _ in range(20):
        await call(world, account)
    assert not any(task.done() for task in hanging)


async def ended(calls: list[asyncio.Future[Any]]) -> None:
    for task in calls:
        task.cancel()
    await asyncio.wait(calls)
