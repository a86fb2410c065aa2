"""Sending a stream of requests to a server that may end the call before it has read them all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from grpc.aio import AioRpcError, InternalError


async def send_all(call: Any, frames: AsyncIterator[bytes]) -> None:
    """Write `frames` and half-close. Returns early when the call ends, whose status tells why.

    `call` is one of grpc.aio's without request serializer. Its own `write`, and passing an iterator, replace
    the server's status with INTERNAL when the server ends the call during a write, so frames go beneath it.
    """
    async for frame in frames:
        if not await send(call, frame):
            return
    await half_close(call)


async def send(call: Any, frame: bytes) -> bool:
    """Write one frame; False when the call has ended. Not to be called again before it has returned."""
    try:
        await call.wait_for_connection()
        if call.done():
            return False
        await call._cython_call.send_serialized_message(frame)
    except (AioRpcError, InternalError):
        return False
    return True


async def half_close(call: Any) -> None:
    """Say that no more frames come."""
    with suppress(AioRpcError, InternalError):
        await call.done_writing()
