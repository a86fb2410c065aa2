"""Streaming calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import Message
from grpc.aio import EOF, AioRpcError, InternalError

from mesh_client.caller import Caller, failure_of
from mesh_client.errors import MeshCallError, error_of
from mesh_client.retries import Attempts


class Stream:
    """A streaming call: iterate over its responses, or `read` them; `write` requests where they are a stream.

    All of it raises `MeshCallError`. Leaving the stream before its end needs `cancel`. The call starts at
    once; one with a single request is retried when it fails before its first response, where that is safe.
    """

    def __init__(
        self, begin: Callable[[Attempts], Awaitable[Any]], caller: Caller, attempts: Attempts
    ) -> None:
        self._begin = begin
        self._caller = caller
        self._attempts = attempts
        self._opening = self._open()
        self._responses: AsyncGenerator[Any, None] | None = None

    def __aiter__(self) -> AsyncGenerator[Any, None]:
        if self._responses is None:
            self._responses = self._read_all()
        return self._responses

    async def read(self) -> Any:
        """The next response; `grpc.aio.EOF` at the end."""
        return await anext(aiter(self), EOF)

    async def write(self, request: Message) -> None:
        """Send the next request, when the other side has room for it."""
        call = await self._call()
        if not await send(call, request):
            raise await status_of(call)

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        await half_close(await self._call())

    async def result(self) -> Any:
        """The one response of a call whose requests are a stream."""
        try:
            return await (await self._call())
        except (AioRpcError, asyncio.CancelledError) as error:
            raise failure_of(error) from None

    def cancel(self) -> None:
        """End the call."""
        self._opening.cancel()
        if self._opening.done() and not self._opening.cancelled():
            opened = self._opening.result()
            if not isinstance(opened, MeshCallError):
                opened.cancel()

    async def _read_all(self) -> AsyncGenerator[Any, None]:
        answered = False
        try:
            while True:
                try:
                    async for response in await self._call():
                        answered = True
                        yield response
                except (AioRpcError, MeshCallError, asyncio.CancelledError) as error:
                    failure = failure_of(error)
                    if answered:
                        raise failure from None
                    await self._caller.retry(self._attempts, failure)
                    self._opening = self._open()
                else:
                    return
        finally:
            self.cancel()

    def _open(self) -> asyncio.Task[Any]:
        return asyncio.create_task(self._opened(), name="open a stream")

    async def _opened(self) -> Any:
        # Returned and not raised, because asyncio reports exceptions of tasks that nobody awaits.
        try:
            return await self._begin(self._attempts)
        except MeshCallError as error:
            return error

    async def _call(self) -> Any:
        opened = await asyncio.shield(self._opening)
        if isinstance(opened, MeshCallError):
            raise opened
        return opened


async def send(call: Any, request: Message) -> bool:
    """Writes one request; False when the call has ended. Await it before the next call."""
    return await send_bytes(call, request.SerializeToString())


async def send_bytes(call: Any, frame: bytes) -> bool:
    """The same with a serialised request.

    grpc.aio's own `write` replaces the status of a call that the server ends meanwhile with INTERNAL, so the
    frame goes beneath it.
    """
    try:
        await call.wait_for_connection()
        if call.done():
            return False
        await call._cython_call.send_serialized_message(frame)
    except (AioRpcError, InternalError):
        return False
    return True


async def half_close(call: Any) -> None:
    """Say that no more requests come."""
    with suppress(AioRpcError, InternalError):
        await call.done_writing()


async def status_of(call: Any) -> MeshCallError:
    """The failure that ended the call; an error too if it ended with OK before all was sent."""
    return error_of(await call.code(), await call.details() or _ENDED, await call.trailing_metadata() or ())


_ENDED = "the call has ended"
