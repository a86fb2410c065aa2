"""Forwards streaming calls.

A call with one request is retried like a unary one until its first response. One with a stream of requests
is not: what was read of them is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from grpc.aio import AioRpcError, InternalError, ServicerContext

from mesh_core.errors import InvalidField, MeshError, ResourceExhausted
from mesh_core.rpc.options import STREAMED_FRAME_BYTES
from mesh_core.rpc.peers import CallFailed
from mesh_core.rpc.peers.metadata import forwarded_metadata
from mesh_core.rpc.server import finishes
from mesh_core.rpc.server.reading_out import READ_OUT_SECONDS
from mesh_router.proxy.relay import (
    cancelled_by_caller,
    relay_cancellation,
    relay_failure,
    relay_initial_metadata,
    relay_interruption,
    relay_trailing_metadata,
)
from mesh_router.proxy.retry import Attempts
from mesh_router.proxy.routes import Route
from mesh_router.proxy.unary import Resolve
from mesh_router.proxy.upstreams import Upstreams

Context = ServicerContext[Any, Any]


def response_stream_handler(
    route: Route, upstreams: Upstreams, resolve: Resolve
) -> Callable[[bytes, Context], Awaitable[None]]:
    """The handler of a method with one request and a stream of responses."""

    async def serve(request: bytes, context: Context) -> None:
        attempts = Attempts(resolve(route, request, context), context)
        metadata = upstreams.relayed(forwarded_metadata(context))
        while True:
            endpoint = await attempts.endpoint()
            call = upstreams.stream(
                endpoint.address, route, request, timeout=context.time_remaining(), metadata=metadata
            )
            responded = False
            try:
                await relay_initial_metadata(call, context)
                async for response in call:
                    responded = True
                    await context.write(response)
                await relay_trailing_metadata(call, context)
                return  # noqa: TRY300 - the loop's else is the next attempt
            except AioRpcError as error:
                failed = CallFailed.of(error)
                if responded:
                    await relay_interruption(failed, context, attempts)
                if not attempts.may_retry(failed, route):
                    await relay_failure(failed, context, attempts)
            except asyncio.CancelledError:
                if cancelled_by_caller():
                    raise
                await relay_cancellation(call)
            finally:
                call.cancel()
            await attempts.backoff()

    return finishes(serve) if route.name in _ENDS_BY_ITSELF else serve


def request_stream_handler(
    route: Route, upstreams: Upstreams, resolve: Resolve
) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]:
    """The handler of a method with a stream of requests, and one response or a stream of them."""

    async def serve(requests: AsyncIterator[bytes], context: Context) -> Any:
        try:
            first = await anext(requests)
        except StopAsyncIteration:
            raise InvalidField("frame", "the stream has none") from None
        attempts = Attempts(resolve(route, first, context), context)
        endpoint = await attempts.endpoint()
        call = upstreams.stream(
            endpoint.address,
            route,
            timeout=context.time_remaining(),
            metadata=upstreams.relayed(forwarded_metadata(context)),
        )
        frames = _small_enough(first, requests)
        sending = asyncio.create_task(_send_all(call, frames), name=f"send {route.path}")
        responded = False
        try:
            if not route.response_streaming:
                response = await call
                await relay_initial_metadata(call, context)
                await relay_trailing_metadata(call, context)
                return response
            await relay_initial_metadata(call, context)
            async for response in call:
                responded = True
                await context.write(response)
            await relay_trailing_metadata(call, context)
        except AioRpcError as error:
            if not route.response_streaming:  # an upload is read on for a moment, as by every server of ours
                await asyncio.wait([sending], timeout=READ_OUT_SECONDS)
            if responded:
                await relay_interruption(CallFailed.of(error), context, attempts)
            await relay_failure(CallFailed.of(error), context, attempts)
        except asyncio.CancelledError:
            if cancelled_by_caller():
                raise
            if sending.done():
                sending.result()  # raises what ended the call from our side
            await relay_cancellation(call)
        finally:
            call.cancel()
            sending.cancel()
        return None

    return serve


async def _send_all(call: Any, frames: AsyncIterator[bytes]) -> None:
    """Write `frames` and half-close. Once the call has ended, the remaining frames are read and dropped.

    Cancels the call when `frames` raises, and raises that.

    `call` is one of grpc.aio's without request serializer. Its own `write`, and passing an iterator, replace
    the server's status with INTERNAL when the server ends the call during a write, so frames go beneath it.
    """
    try:
        await call.wait_for_connection()
        async for frame in frames:
            if call.done():
                continue
            with suppress(InternalError):  # it ends now
                await call._cython_call.send_serialized_message(frame)
        await call.done_writing()
    except (AioRpcError, InternalError):
        return
    except MeshError:
        call.cancel()
        raise


async def _small_enough(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All frames. Raises `ResourceExhausted` for one that is too large to be held while it is written.

    Also ends early when the caller disconnects, or sends more than gRPC accepts; so the endpoint has to be
    told the size of the whole by the caller.
    """
    frame = first
    while True:
        if len(frame) > STREAMED_FRAME_BYTES:
            raise ResourceExhausted(
                f"a frame has {len(frame):,} bytes; at most {STREAMED_FRAME_BYTES:,} are taken",
                "MESSAGE_TOO_LARGE",
            )
        yield frame
        try:
            frame = await anext(rest)
        except StopAsyncIteration:
            return


_ENDS_BY_ITSELF = frozenset({"DownloadMedia"})
"""Methods whose streams a drain waits for."""
