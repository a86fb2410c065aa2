"""Each kind of call through the proxy: whatever one side does, the other side sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc import Compression, StatusCode

from mesh_core.errors import FailedPrecondition, MeshError
from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.rpc.channels import ChannelPool, open_channel
from mesh_core.rpc.peers import PeerPool
from mesh_core.rpc.server import Server, status
from mesh_core.signal import Signal
from mesh_router.proxy import Forwarder, Upstreams
from mesh_router.proxy.routes import Destination, Route
from tests.support.eventually import eventually
from tests.support.probe_service import (
    MESH,
    MESH_KEY,
    SERVICE,
    ProbeServicer,
    ProbeStub,
    add_probe_to_server,
    make_server,
)

UNARY, BATCHED, DOWN, UP, BOTH = "Unary", "Unary, batched", "Down", "Up", "Both"
KINDS = (UNARY, BATCHED, DOWN, UP, BOTH)
STREAMED = {UNARY: (False, False), DOWN: (False, True), UP: (True, False), BOTH: (True, True)}
PATIENCE = 20.0
Act = Callable[[AsyncIterator[StringValue], Any], Awaitable[None]]


class Served(ProbeServicer):
    """Does what a test says: `act` gets the requests and the context, and answers with `context.write`.

    A unary answer is what the last write would have been.
    """

    def __init__(self, act: Act) -> None:
        self.began = asyncio.Event()
        """The first request has been read. Cancelled before, a stream of requests just ends."""
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self._act = act

    async def Unary(self, request: StringValue, context: Any) -> StringValue:
        return await self._unary(one(request), context)

    async def Up(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        return await self._unary(requests, context)

    async def Down(self, request: StringValue, context: Any) -> None:
        await self._observed(one(request), context)

    async def Both(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        await self._observed(requests, context)

    async def _unary(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        answer = UnaryContext(context)
        await self._observed(requests, answer)
        return answer.response

    async def _observed(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        try:
            await self._act(self._noted(requests), context)
        except BaseException as error:
            self.ended.set_result(error)
            raise
        self.ended.set_result(None)

    async def _noted(self, requests: AsyncIterator[StringValue]) -> AsyncIterator[StringValue]:
        async for request in requests:
            self.began.set()
            yield request


class UnaryContext:
    """A context whose `write` keeps the message."""

    def __init__(self, context: Any) -> None:
        self.response = StringValue()
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, response: StringValue) -> None:
        self.response = response


async def one(request: StringValue) -> AsyncIterator[StringValue]:
    yield request


@dataclass
class Directory:
    """One instance that is always there."""

    address: str
    changes: Signal = field(default_factory=Signal)

    def services(self) -> list[ServiceInfo]:
        return [ServiceInfo(id="the-one", address=self.address)]


class Calling:
    """A caller in front of a proxy in front of `served`."""

    def __init__(self, served: Served, probe: ProbeStub, kind: str) -> None:
        self.served = served
        self._call = getattr(probe, kind.partition(",")[0])
        self._sends = kind in (UP, BOTH)
        self._reads = kind in (DOWN, BOTH)

    def begin(self, text: str = "hello", timeout: float = PATIENCE, **options: Any) -> Any:
        """A call whose first request is sent, or will be; it is not half-closed."""
        options = {"metadata": MESH, "timeout": timeout, **options}
        return self._call(**options) if self._sends else self._call(StringValue(value=text), **options)

    async def send(self, call: Any, *texts: str) -> None:
        """Requests, where the kind has more than the one that the call began with."""
        if self._sends:
            for text in texts:
                await call.write(StringValue(value=text))

    async def close(self, call: Any) -> None:
        if self._sends:
            await call.done_writing()

    async def answers(self, call: Any) -> list[str]:
        """All of them, to the end of the call."""
        if self._reads:
            return [answer.value async for answer in call]
        return [(await call).value]

    async def failure(self, call: Any) -> MeshError:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.answers(call)
        return status.from_rpc_error(raised.value)


Make = Callable[[str, Act], Awaitable[Calling]]


@pytest.fixture
async def calling() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def start(server: Server) -> None:
            await server.start()
            stack.push_async_callback(server.stop)

        async def make(kind: str, act: Act) -> Calling:
            served = Served(act)
            node = make_server()
            node.add(add_probe_to_server, served)
            await start(node)
            channels = ChannelPool()
            stack.push_async_callback(channels.close)
            peer_pool = PeerPool(channels, MESH_KEY, None)
            stack.callback(peer_pool.close)
            upstreams = Upstreams(channels, peer_pool)
            view: Any = None  # nothing here has an owner
            forwarder = Forwarder(view, {"media": Directory(node.address)}, upstreams)
            proxy = make_server()
            proxy.add_bytes(
                SERVICE,
                {
                    name: forwarder.handler(
                        Route(
                            SERVICE,
                            name,
                            Destination.MEDIA,
                            *streamed,
                            idempotent=False,
                            batched=kind == BATCHED,
                        )
                    )
                    for name, streamed in STREAMED.items()
                },
            )
            await start(proxy)
            channel = open_channel(proxy.address)
            stack.push_async_callback(channel.close)
            return Calling(served, ProbeStub(channel), kind)

        yield make


async def echo(requests: AsyncIterator[StringValue], context: Any) -> None:
    """All requests as one answer."""
    await context.write(StringValue(value=" ".join([request.value async for request in requests])))


async def hang(requests: AsyncIterator[StringValue], _context: Any) -> None:
    await anext(requests)
    await asyncio.Event().wait()


async def within(what: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await what


@pytest.mark.parametrize("kind", KINDS)
async def test_requests_and_answers_pass_through(calling: Make, kind: str) -> None:
    caller = await calling(kind, echo)
    call = caller.begin("one")
    await caller.send(call, "one", "two", "three")
    await caller.close(call)
    assert await caller.answers(call) == ["one two three" if kind in (UP, BOTH) else "one"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_that_cancels_cancels_the_call_at_the_other_side(calling: Make, kind: str) -> None:
    caller = await calling(kind, hang)
    call = caller.begin()
    await caller.send(call, "one")
    await within(caller.served.began.wait())
    call.cancel()
    assert isinstance(await within(caller.served.ended), asyncio.CancelledError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_comes_back_whole_while_the_caller_still_sends(calling: Make, kind: str) -> None:
    async def fail(requests: AsyncIterator[StringValue], context: Any) -> None:
        await anext(requests)
        await context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing-bin", b"\x00\xff"),))
        raise FailedPrecondition("not now", "NOT_PAIRED")

    caller = await calling(kind, fail)
    call = caller.begin()
    await caller.send(call, "one")
    failure = await caller.failure(call)
    assert (failure.code, failure.reason, failure.message) == (
        StatusCode.FAILED_PRECONDITION,
        "NOT_PAIRED",
        "not now",
    )
    assert ("x-trailing-bin", b"\x00\xff") in tuple(await call.trailing_metadata())


@pytest.mark.parametrize("kind", [UP, BOTH])
async def test_an_early_end_without_failure_ends_the_call_well(calling: Make, kind: str) -> None:
    async def enough(requests: AsyncIterator[StringValue], context: Any) -> None:
        await context.write(await anext(requests))

    caller = await calling(kind, enough)
    call = caller.begin()
    await caller.send(call, "one")
    assert await caller.answers(call) == ["one"]
    assert await call.code() is StatusCode.OK


@pytest.mark.parametrize("kind", [UP, BOTH])
async def test_the_other_side_learns_of_the_last_request_when_the_caller_says_so(
    calling: Make, kind: str
) -> None:
    read: list[str] = []
    ended = asyncio.Event()

    async def count(requests: AsyncIterator[StringValue], context: Any) -> None:
        while (request := await anext(requests, None)) is not None:
            read.append(request.value)
        ended.set()
        await context.write(StringValue(value="after the end"))

    caller = await calling(kind, count)
    call = caller.begin()
    await caller.send(call, "one", "two")
    await eventually(lambda: len(read) == 2)
    assert not ended.is_set()
    await caller.close(call)
    assert await caller.answers(call) == ["after the end"]


@pytest.mark.parametrize("kind", [DOWN, BOTH])
async def test_initial_metadata_come_before_the_first_answer(calling: Make, kind: str) -> None:
    seen = asyncio.Event()

    async def greet(requests: AsyncIterator[StringValue], context: Any) -> None:
        await anext(requests)
        await context.send_initial_metadata((("x-initial", "1"),))
        await seen.wait()
        await context.write(StringValue(value="answer"))

    caller = await calling(kind, greet)
    call = caller.begin()
    await caller.send(call, "one")
    assert ("x-initial", "1") in tuple(await call.initial_metadata())
    seen.set()
    assert await caller.answers(call) == ["answer"]


@pytest.mark.parametrize("kind", KINDS)
async def test_metadata_come_with_a_good_end_too(calling: Make, kind: str) -> None:
    async def tell(requests: AsyncIterator[StringValue], context: Any) -> None:
        await anext(requests)
        sent = dict(context.invocation_metadata())
        await context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "2"),))
        await context.write(StringValue(value=sent["x-mine"]))

    caller = await calling(kind, tell)
    call = caller.begin(metadata=(*MESH, ("x-mine", "yes")))
    await caller.send(call, "one")
    assert await caller.answers(call) == ["yes"]
    assert ("x-initial", "1") in tuple(await call.initial_metadata())
    assert ("x-trailing", "2") in tuple(await call.trailing_metadata())


@pytest.mark.parametrize("kind", KINDS)
async def test_the_deadline_reaches_the_other_side_and_ends_the_call_on_both(
    calling: Make, kind: str
) -> None:
    remaining: list[float] = []

    async def note(requests: AsyncIterator[StringValue], context: Any) -> None:
        remaining.append(context.time_remaining())
        await hang(requests, context)

    caller = await calling(kind, note)
    call = caller.begin(timeout=1.0)
    await caller.send(call, "one")
    failure = await caller.failure(call)
    assert failure.code is StatusCode.DEADLINE_EXCEEDED
    assert isinstance(await within(caller.served.ended), asyncio.CancelledError)
    assert 0 < remaining[0] <= 1.02  # gRPC sends it in units of 10 ms, rounded up, and that twice


@pytest.mark.parametrize("kind", KINDS)
async def test_compressed_requests_and_answers_pass_through(calling: Make, kind: str) -> None:
    async def compressed(requests: AsyncIterator[StringValue], context: Any) -> None:
        if kind != BATCHED:  # those have no compression of their own
            context.set_compression(Compression.Gzip)
        await echo(requests, context)

    text = "much of the same " * 10_000
    caller = await calling(kind, compressed)
    call = caller.begin(text, compression=Compression.Gzip)
    await caller.send(call, text)
    await caller.close(call)
    assert await caller.answers(call) == [text]
