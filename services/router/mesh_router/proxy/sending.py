"""Sending a stream of requests to a server that may end the call before it has read them all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from grpc.aio import AioRpcError, InternalError

from mesh_core.errors import MeshError


async def send_all(call: Any, frames: AsyncIterator[bytes]) -> None:
    """Write `frames` and half-close. After the call has ended, whose status tells why, the rest is dropped.

    When `frames` raises, the call is cancelled.

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
