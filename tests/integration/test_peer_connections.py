"""Batched calls: like calls that travel by themselves in everything that a caller can see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_core import errors
from mesh_core.errors import MeshError
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.channels import ChannelPool
from mesh_core.rpc.peers import CallFailed, PeerConnection, PeerPool, Response
from mesh_core.rpc.peers import connection as connection_module
from mesh_core.rpc.peers.connection import FrameConnection
from mesh_core.rpc.peers.metadata import Metadata
from mesh_core.rpc.server import Server
from mesh_core.rpc.tls import ChannelTls, client_context
from mesh_core.settings import ServerSettings
from mesh_core.telemetry.tracing import current_traceparent
from sessionmesh.internal.v1 import peer_pb2, peer_pb2_grpc
from tests.support.authority import Authority
from tests.support.eventually import eventually
from tests.support.probe_service import (
    ADMIN,
    MESH,
    MESH_KEY,
    SERVICE,
    Echo,
    ProbeServicer,
    add_probe_to_server,
    make_server,
)

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
UNARY = f"/{SERVICE}/Unary"


class Peer:
    """A server, called both ways."""

    def __init__(self, servicer: object, settings: ServerSettings | None = None) -> None:
        self.server: Server = make_server(settings)
        self.server.add(add_probe_to_server, servicer)
        self.channels = ChannelPool()
        self.peer_pool = PeerPool(self.channels, MESH_KEY, None)

    async def __aenter__(self) -> Peer:
        await self.server.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.peer_pool.close()
        await self.channels.close()
        await self.server.stop()

    async def batched(
        self, path: str, request: bytes, metadata: Metadata = ADMIN, timeout: float | None = 10
    ) -> Response:
        connection = await self.peer_pool.peer(self.server.address)
        if connection is None:
            raise CallFailed(StatusCode.UNAVAILABLE, "no peer connection", begun=False)
        return await connection.call(path, request, metadata, timeout)

    async def alone(
        self, path: str, request: bytes, metadata: Metadata = ADMIN, timeout: float | None = 10
    ) -> Response:
        method: Any = self.channels.get(self.server.address).unary_unary(path)
        call = method(request, metadata=tuple(metadata), timeout=timeout)
        try:
            return Response(await call, await call.initial_metadata(), await call.trailing_metadata())
        except AioRpcError as error:
            raise CallFailed.of(error) from None


def text(value: str) -> bytes:
    return StringValue(value=value).SerializeToString()


class Raising(ProbeServicer):
    """Sends metadata both ways, and raises what the test has put here."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def Unary(self, _request: StringValue, context: Any) -> StringValue:
        await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-last", "2"), ("x-last-bin", b"\xfe")))
        raise self._error


async def ending(call: Any) -> tuple[StatusCode, str, list[tuple[str, object]]]:
    with pytest.raises(CallFailed) as failed:
        await call
    return failed.value.code, failed.value.message, [_readable(*entry) for entry in failed.value.trailing]


def _readable(key: str, value: str | bytes) -> tuple[str, object]:
    if key != "grpc-status-details-bin":
        return key, value
    assert isinstance(value, bytes)
    return key, _parsed(value)


def _parsed(details: bytes) -> str:
    status = status_pb2.Status.FromString(details)
    info = error_details_pb2.ErrorInfo()
    for packed in status.details:
        if packed.Unpack(info) and info.metadata["error_id"]:
            return f"{info.reason}"  # an id of its own each time
    return str(status)


ERRORS = [
    errors.InvalidArgument("two fields disagree", "ACCOUNT_MISMATCH"),
    errors.InvalidField("content.text.body", "must not be empty"),
    errors.Unauthenticated("who is it?", "CREDENTIALS_INVALID"),
    errors.PermissionDenied("no", "SCOPE_MISSING", metadata={"scope": "SEND"}),
    errors.NotFound("account", "acc_1"),
    errors.AlreadyExists("again", "REQUEST_ID_REUSED", resource="message", name="msg_1"),
    errors.Aborted("changed meanwhile", "ETAG_MISMATCH"),
    errors.FailedPrecondition("not paired", "NOT_PAIRED"),
    errors.ResourceExhausted("full", "OUTBOX_FULL", quota="outbox", retry_after=2.5),
    errors.OutOfRange("too late", "CURSOR_EXPIRED"),
    errors.Unavailable("away", "BACKEND_UNAVAILABLE", retry_after=1.0),
    errors.NotOwner("node-2", 7),
    errors.GoingAway("token"),
    errors.DeadlineExceeded("late", "DEADLINE_EXCEEDED"),
    errors.Cancelled("stopped", "CANCELLED"),
    errors.Unimplemented("not here", "NOT_SERVED"),
    MeshError("odd: \u00e4\u00f6\u00fc", "INTERNAL"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__}")
async def test_a_gathered_call_fails_like_one_that_travels_by_itself(error: MeshError) -> None:
    async with Peer(Raising(error)) as peer:
        alone = await ending(peer.alone(UNARY, text("x")))
        assert await ending(peer.batched(UNARY, text("x"))) == alone


@pytest.mark.parametrize(
    ("path", "request_bytes", "metadata"),
    [
        (UNARY, text("x"), ()),
        (UNARY, text("x"), (("authorization", "Bearer nonsense"),)),
        (UNARY, b"\xff\xff\xff", ADMIN),
        (f"/{SERVICE}/Internal", text("x"), ADMIN),
        (f"/{SERVICE}/Forgotten", text("x"), MESH),
        (f"/{SERVICE}/Planned", text("x"), ADMIN),
        (f"/{SERVICE}/Unheard", text("x"), ADMIN),
        ("/sessionmesh.Nobody/Unheard", text("x"), ADMIN),
    ],
    ids=[
        "no key",
        "a bad key",
        "no message",
        "a scope that is missing",
        "a method without a scope",
        "a method not served yet",
        "an unknown method",
        "an unknown service",
    ],
)
async def test_a_gathered_call_is_refused_like_one_that_travels_by_itself(
    path: str, request_bytes: bytes, metadata: Metadata
) -> None:
    async with Peer(Echo()) as peer:
        alone = await ending(peer.alone(path, request_bytes, metadata))
        assert await ending(peer.batched(path, request_bytes, metadata)) == alone


async def test_an_unforeseen_error_is_answered_with_an_id_either_way() -> None:
    async with Peer(Raising(ZeroDivisionError("oh"))) as peer:
        alone = await ending(peer.alone(UNARY, text("x")))
        batched = await ending(peer.batched(UNARY, text("x")))
    assert (batched[0], batched[2]) == (alone[0], alone[2])
    assert batched[0] is StatusCode.INTERNAL


class Answering(ProbeServicer):
    """Tells what it sees of the call, with metadata both ways."""

    async def Unary(self, request: StringValue, context: Any) -> StringValue:
        await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-last", "2"),))
        seen = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
        remaining = context.time_remaining()
        in_time = remaining is not None and 5 < remaining < 11  # gRPC rounds timeouts up
        who = current_identity().key_id
        return StringValue(value=f"{request.value} {who} {seen} {in_time} {current_traceparent()}")


async def test_identity_metadata_deadline_and_trace_arrive_and_come_back() -> None:
    metadata: Metadata = (*ADMIN, ("traceparent", TRACEPARENT), ("x-mine", "a"), ("x-mine-bin", b"\xff\x00"))
    async with Peer(Answering()) as peer:
        alone = await peer.alone(UNARY, text("x"), metadata)
        batched = await peer.batched(UNARY, text("x"), metadata)
    assert batched.body == alone.body
    assert TRACEPARENT.encode() in batched.body
    assert list(batched.initial) == list(alone.initial)
    assert list(batched.trailing) == list(alone.trailing)


class Hanging(Echo):
    """Hangs on `hang`, and tells when it is cancelled."""

    def __init__(self) -> None:
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def Unary(self, request: StringValue, context: Any) -> StringValue:
        if request.value != "hang":
            return request
        self.hanging.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request


async def test_a_call_that_hangs_holds_up_no_other() -> None:
    servicer = Hanging()
    async with Peer(servicer) as peer:
        hanging = asyncio.create_task(peer.batched(UNARY, text("hang")))
        async with asyncio.timeout(5):
            await servicer.hanging.wait()
            bodies = await asyncio.gather(*(peer.batched(UNARY, text(str(n))) for n in range(100)))
        assert [response.body for response in bodies] == [text(str(n)) for n in range(100)]
        assert not hanging.done()
        servicer.release.set()
        assert (await hanging).body == text("hang")


async def test_the_deadline_ends_a_call_and_its_handler() -> None:
    servicer = Hanging()
    async with Peer(servicer) as peer, asyncio.timeout(5):
        code, _, _ = await ending(peer.batched(UNARY, text("hang"), timeout=0.05))
        assert code is StatusCode.DEADLINE_EXCEEDED
        await servicer.cancelled.wait()


async def test_cancelling_a_call_cancels_its_handler() -> None:
    servicer = Hanging()
    async with Peer(servicer) as peer, asyncio.timeout(5):
        call = asyncio.create_task(peer.batched(UNARY, text("hang")))
        await servicer.hanging.wait()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await servicer.cancelled.wait()
        assert (await peer.batched(UNARY, text("x"))).body == text("x")


async def test_a_response_above_the_limit_is_refused_and_the_others_go_on() -> None:
    class Large(Echo):
        async def Unary(self, request: StringValue, _context: Any) -> StringValue:
            return StringValue(value="x" * 2_000_000) if request.value == "large" else request

    async with Peer(Large(), ServerSettings(max_message_bytes=1_000_000)) as peer:
        large, small = await asyncio.gather(
            ending(peer.batched(UNARY, text("large"))), peer.batched(UNARY, text("x"))
        )
        assert large[0] is StatusCode.RESOURCE_EXHAUSTED
        assert small.body == text("x")


async def test_many_calls_with_much_metadata_travel_in_several_frames() -> None:
    async with Peer(Echo()) as peer:
        metadata = [*ADMIN, ("x-large", "x" * 15_000)]
        calls = [peer.batched(UNARY, text("x"), metadata) for _ in range(1_000)]
        assert {response.body for response in await asyncio.gather(*calls)} == {text("x")}


async def test_many_large_answers_come_in_several_frames() -> None:
    class Large(Echo):
        async def Unary(self, request: StringValue, _context: Any) -> StringValue:
            return StringValue(value=request.value * 1000)

    async with Peer(Large()) as peer:
        request = text("y" * 1000)
        responses = await asyncio.gather(*(peer.batched(UNARY, request) for _ in range(20)))
        assert {len(response.body) for response in responses} == {len(text("y" * 1_000_000))}


async def test_a_stopping_server_answers_what_it_began_and_begins_no_more() -> None:
    servicer = Hanging()
    async with Peer(servicer) as peer, asyncio.timeout(10):
        begun = asyncio.create_task(peer.batched(UNARY, text("hang")))
        await servicer.hanging.wait()
        draining = asyncio.create_task(peer.server.drain())
        await asyncio.wait([draining], timeout=0.05)
        assert (await peer.batched(UNARY, text("while it drains"))).body == text("while it drains")
        servicer.release.set()
        await draining
        await peer.server.stop()
        assert (await begun).body == text("hang")
        with pytest.raises(CallFailed) as refused:
            await peer.batched(UNARY, text("too late"))
        assert refused.value.code is StatusCode.UNAVAILABLE


@pytest.fixture
def broken() -> Callable[[CallFailed], bool]:
    return lambda failed: failed.code is StatusCode.UNAVAILABLE and failed.reason == ""


async def test_calls_under_way_fail_when_the_server_dies(broken: Callable[[CallFailed], bool]) -> None:
    servicer = Hanging()
    async with Peer(servicer) as peer, asyncio.timeout(5):
        calls = [asyncio.create_task(peer.batched(UNARY, text("hang"), timeout=None)) for _ in range(3)]
        await servicer.hanging.wait()
        await peer.server.stop()
        for call in calls:
            with pytest.raises(CallFailed) as failed:
                await call
            assert broken(failed.value)
            assert failed.value.begun


async def test_a_closed_exchange_fails_the_calls_on_it(broken: Callable[[CallFailed], bool]) -> None:
    servicer = Hanging()
    async with Peer(servicer) as peer, asyncio.timeout(5):
        call = asyncio.create_task(peer.batched(UNARY, text("hang")))
        await servicer.hanging.wait()
        peer.peer_pool.discard(peer.server.address)
        with pytest.raises(CallFailed) as failed:
            await call
        assert broken(failed.value)
        await servicer.cancelled.wait()


async def test_a_peer_with_another_mesh_key_takes_no_exchange() -> None:
    async with Peer(Echo()) as peer:
        peer_pool = PeerPool(peer.channels, "the mesh key of another mesh", None)
        assert await peer_pool.peer(peer.server.address) is None


async def test_a_peer_that_is_away_takes_no_exchange_until_it_is_back() -> None:
    async with Peer(Echo()) as peer:
        address = peer.server.address
        await peer.server.stop()
        assert await peer.peer_pool.peer(address) is None
        settings = ServerSettings(listen=address)
        again = make_server(settings)
        again.add(add_probe_to_server, Echo())
        await again.start()

        async def opened() -> bool:
            return await peer.peer_pool.peer(address) is not None

        await eventually(opened)
        await again.stop()


class Raw(FrameConnection):
    """A connection that does what a test says, and is not heard by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()
        self.on_end = lambda _: self.ended.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write = cast("asyncio.Transport", transport).write

    def _heartbeat(self) -> None:
        pass


async def raw_connection(peer: Peer) -> tuple[Raw, bytes]:
    stub = peer_pb2_grpc.PeerServiceStub(peer.channels.get(peer.server.address))
    place = await stub.OpenConnection(peer_pb2.OpenConnectionRequest(), metadata=MESH)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Raw, "127.0.0.1", place.port)
    return connection, place.token


async def test_a_connection_with_a_wrong_token_is_ended() -> None:
    async with Peer(Echo()) as peer, asyncio.timeout(5):
        connection, token = await raw_connection(peer)
        connection.send(b"x" * len(token))
        await connection.ended.wait()


async def test_a_stranger_can_announce_no_large_frame() -> None:
    async with Peer(Echo()) as peer, asyncio.timeout(5):
        connection, _ = await raw_connection(peer)
        connection.write((1024 * 1024).to_bytes(4, "big"))
        await connection.ended.wait()


async def test_of_too_many_connections_without_a_token_the_oldest_ends_and_peers_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mesh_core.rpc.server.peers.MAX_UNKNOWN", 3)
    async with Peer(Echo()) as peer, asyncio.timeout(5):
        known, token = await raw_connection(peer)
        known.send(token)
        silent = [(await raw_connection(peer))[0] for _ in range(5)]
        await silent[0].ended.wait()
        await silent[1].ended.wait()
        last, token = await raw_connection(peer)
        last.send(token)
        assert (await peer.batched(f"/{SERVICE}/Unary", text("x"))).body == text("x")
        assert [one.ended.is_set() for one in (known, *silent[3:], last)] == [False] * 4
        for one in (known, *silent[2:], last):
            one.abort("done")


async def test_a_connection_without_a_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_core.rpc.server.peers.TOKEN_SECONDS", 0.1)
    async with Peer(Echo()) as peer, asyncio.timeout(5):
        connection, _ = await raw_connection(peer)
        await connection.ended.wait()


async def test_a_token_is_good_for_one_connection() -> None:
    async with Peer(Echo()) as peer, asyncio.timeout(5):
        first, token = await raw_connection(peer)
        first.send(token)
        second, _ = await raw_connection(peer)
        second.send(token)
        await second.ended.wait()
        assert not first.ended.is_set()
        first.abort("done")


async def test_a_frame_that_is_none_ends_the_connection() -> None:
    async with Peer(Echo()) as peer, asyncio.timeout(5):
        connection, token = await raw_connection(peer)
        connection.send(token)
        connection.send(b"\xff\xff\xff")
        await connection.ended.wait()


async def test_a_tenants_key_opens_no_exchange() -> None:
    async with Peer(Echo()) as peer:
        stub = peer_pb2_grpc.PeerServiceStub(peer.channels.get(peer.server.address))
        with pytest.raises(AioRpcError) as refused:
            await stub.OpenConnection(peer_pb2.OpenConnectionRequest(), metadata=ADMIN)
        assert refused.value.code() is StatusCode.PERMISSION_DENIED


async def test_a_peer_that_falls_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[CallFailed], bool]
) -> None:
    monkeypatch.setattr(connection_module, "HEARTBEAT_SECONDS", 0.4)
    monkeypatch.setattr(connection_module, "SILENCE_SECONDS", 0.8)
    loop = asyncio.get_running_loop()
    silent = await loop.create_server(Raw, "127.0.0.1", 0)
    async with silent, asyncio.timeout(10):
        port = silent.sockets[0].getsockname()[1]
        _, frames = await loop.create_connection(FrameConnection, "127.0.0.1", port)
        connection = PeerConnection(frames, b"token")
        with pytest.raises(CallFailed) as failed:
            await connection.call(UNARY, text("x"), ADMIN, None)
        assert broken(failed.value)
        assert connection.ended is not None


async def test_a_connection_on_which_nothing_moves_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(connection_module, "SILENCE_SECONDS", 0.2)
    servicer = Hanging()
    async with Peer(servicer) as peer, asyncio.timeout(10):
        call = asyncio.create_task(peer.batched(UNARY, text("hang")))
        await servicer.hanging.wait()
        await asyncio.wait([call], timeout=0.6)
        servicer.release.set()
        assert (await call).body == text("hang")


@pytest.mark.parametrize("mutual", [False, True], ids=["TLS", "mTLS"])
async def test_calls_are_gathered_over_tls_as_the_server_speaks_it(tmp_path: Path, mutual: bool) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("node")
    settings = ServerSettings(
        tls_certificate=str(certificate),
        tls_key=str(key),
        tls_client_ca=str(authority.ca) if mutual else "",
    )
    server = make_server(settings)
    server.add(add_probe_to_server, Echo())
    await server.start()
    tls = ChannelTls(authority.ca.read_bytes(), certificate.read_bytes(), key.read_bytes())
    channels = ChannelPool(tls=tls)
    ours = ServerSettings(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.ca))
    peer_pool = PeerPool(channels, MESH_KEY, client_context(ours))
    connection = await peer_pool.peer(server.address)
    assert connection is not None
    assert (await connection.call(UNARY, text("secret"), ADMIN, 5)).body == text("secret")
    peer_pool.close()
    await channels.close()
    await server.stop()


def test_calls_are_gathered_on_the_services_event_loop_too() -> None:
    async def calls() -> list[bytes]:
        async with Peer(Echo()) as peer, asyncio.timeout(10):
            responses = await asyncio.gather(*(peer.batched(UNARY, text(str(n))) for n in range(100)))
            return [response.body for response in responses]

    assert uvloop.run(calls()) == [text(str(n)) for n in range(100)]
