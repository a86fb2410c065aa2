"""The caller's side of one exchange: one stream to one peer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError, Channel, InternalError, UsageError

from mesh_core.channels import call_metadata, mesh_metadata
from mesh_core.exchange.entries import Metadata, entries, pairs
from mesh_core.exchange.outcome import CallFailed, Response
from sessionmesh.internal.v1 import exchange_pb2 as pb
from sessionmesh.internal.v1 import exchange_pb2_grpc

FRAME_BYTES = 1024 * 1024
FRAME_CALLS = 256
"""Calls are added to a frame until it has this size, or so many: each may have 16 KiB of metadata besides."""

GATHERING = 0.004
"""Seconds that a call waits at most for others to share its frame. A lone call does not wait."""


class Exchange:
    """Opens its stream at once. After the stream has ended, `call` raises; make another one then."""

    def __init__(self, channel: Channel, mesh_key: str) -> None:
        stub = exchange_pb2_grpc.ExchangeServiceStub(channel)
        self._stream: Any = stub.Exchange(metadata=call_metadata(mesh_metadata(mesh_key)))
        self._numbers = 0
        self._unsent: dict[int, pb.Call] = {}
        self._cancelled: list[int] = []
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._changed = asyncio.Event()
        self._answer_came = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.ended: CallFailed | None = None
        """Why no call can be made any more."""
        self.refused = False
        """Whether it ended because the peer takes no exchanges from us."""
        self._tasks = (
            asyncio.create_task(self._write(), name="exchange calls"),
            asyncio.create_task(self._read(), name="exchange answers"),
        )

    async def call(self, path: str, request: bytes, metadata: Metadata, timeout: float | None) -> Response:
        """Call the method at `path`. Raises `CallFailed`. Cancelling it cancels the call over there."""
        if self.ended is not None:
            raise self.ended
        self._numbers += 1
        number = self._numbers
        micros = 0 if timeout is None else max(int(timeout * 1e6), 1)
        self._unsent[number] = pb.Call(
            id=number, path=path, metadata=entries(metadata), timeout_micros=micros, request=request
        )
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._waiting[number] = answer
        self._changed.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None and self._unsent.pop(number, None) is None:
                self._cancelled.append(number)
                self._changed.set()
            raise

    def close(self) -> None:
        """End the stream; calls without an answer fail."""
        self._end(CallFailed(StatusCode.UNAVAILABLE, "the connection was closed"))

    async def _write(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._unsent or self._cancelled:
                await self._gather()
                try:
                    await self._stream.write(self._next_frame())
                except (AioRpcError, asyncio.InvalidStateError, InternalError, UsageError):
                    return  # the stream has ended, and its reader says why

    async def _gather(self) -> None:
        """Let calls join the next frame, while others are under way: until an answer comes, or a moment."""
        if len(self._waiting) > len(self._unsent):
            self._answer_came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHERING):
                    await self._answer_came.wait()

    async def _read(self) -> None:
        try:
            async for frame in self._stream:
                for answer in frame.answers:
                    self._answered(answer)
                self._answer_came.set()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # grpc.aio shows a closed channel like this.
            self._end(CallFailed(StatusCode.UNAVAILABLE, "the connection was closed"))
        except AioRpcError as error:
            self.refused = error.code() in _REFUSALS
            message = error.details() or "the connection broke"
            self._end(CallFailed(StatusCode.UNAVAILABLE, message, begun=not self.refused))
        else:
            self._end(CallFailed(StatusCode.UNAVAILABLE, "the server is going away", begun=False))

    def _answered(self, answer: pb.Answer) -> None:
        waiting = self._waiting.pop(answer.id, None)
        if waiting is None or waiting.done():
            return
        trailing = pairs(answer.trailing_metadata) if answer.trailing_metadata else ()
        if answer.code:
            waiting.set_exception(CallFailed(_CODES[answer.code], answer.message, trailing))
            return
        initial = pairs(answer.initial_metadata) if answer.initial_metadata else ()
        waiting.set_result(Response(answer.response, initial, trailing))

    def _end(self, failure: CallFailed) -> None:
        if self.ended is not None:
            return
        self.ended = CallFailed(failure.code, failure.message, begun=False)
        for number, waiting in self._waiting.items():
            if not waiting.done():
                begun = failure.begun and number not in self._unsent
                waiting.set_exception(CallFailed(failure.code, failure.message, begun=begun))
        self._waiting.clear()
        self._stream.cancel()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _next_frame(self) -> pb.ExchangeRequest:
        size = 0
        calls: list[pb.Call] = []
        for call in self._unsent.values():
            size += len(call.request)
            if calls and (size > FRAME_BYTES or len(calls) == FRAME_CALLS):
                break
            calls.append(call)
        for call in calls:
            del self._unsent[call.id]
        frame = pb.ExchangeRequest(calls=calls, cancelled_ids=self._cancelled)
        self._cancelled.clear()
        return frame


_REFUSALS = {StatusCode.UNIMPLEMENTED, StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}
_CODES = {code.value[0]: code for code in StatusCode}
