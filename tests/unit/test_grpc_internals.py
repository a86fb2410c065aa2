"""What the mesh uses of grpc.aio beneath its API: `send_serialized_message` of a call's inner call.

An upgrade that takes it away, or changes what it does when the server has ended the call, is seen here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

KINDS = ["stream_unary", "stream_stream"]


class Handlers(grpc.GenericRpcHandler):
    """Methods of the two kinds: `/Join/KIND` answers with all frames in one, `/Refuse/KIND` reads none."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        _, verb, kind = str(details.method).split("/")
        handle = getattr(self, verb.lower() if kind == "stream_unary" else f"{verb.lower()}_streaming")
        made: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, f"{kind}_rpc_method_handler")(handle)
        return made

    async def join(self, frames: AsyncIterator[bytes], _context: Any) -> bytes:
        return b" ".join([frame async for frame in frames])

    async def refuse(self, _frames: AsyncIterator[bytes], context: Any) -> bytes:
        await context.abort(StatusCode.RESOURCE_EXHAUSTED, "enough")
        return b""

    async def join_streaming(self, frames: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield await self.join(frames, context)

    async def refuse_streaming(self, frames: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield await self.refuse(frames, context)


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


async def answer(call: Any, kind: str) -> Any:
    return await (call if kind == "stream_unary" else call.read())


@pytest.mark.parametrize("kind", KINDS)
async def test_frames_can_be_sent_beneath_a_calls_own_write(channel: Any, kind: str) -> None:
    call = getattr(channel, kind)(f"/Join/{kind}")()
    await call.wait_for_connection()
    for frame in (b"one", b"two"):
        await call._cython_call.send_serialized_message(frame)
    await call.done_writing()
    assert await answer(call, kind) == b"one two"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_the_server_ends_during_such_a_write_keeps_the_servers_status(
    channel: Any, kind: str
) -> None:
    call = getattr(channel, kind)(f"/Refuse/{kind}")()
    try:
        await call.wait_for_connection()
        while not call.done():
            await call._cython_call.send_serialized_message(bytes(1000))
    except (AioRpcError, grpc.aio.InternalError):
        pass  # it ended before the last write did
    assert (await call.code(), await call.details()) == (StatusCode.RESOURCE_EXHAUSTED, "enough")
