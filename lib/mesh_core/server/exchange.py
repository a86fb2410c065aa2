"""The server's side of `mesh_core.exchange`: each call of a frame is served as if it had come by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AbortError

from mesh_core.errors import InvalidArgument
from mesh_core.exchange.entries import entries, pairs
from mesh_core.server.calls import Context, ServeBytes
from mesh_core.server.drain import stays
from mesh_core.server.gathered_context import GatheredContext
from mesh_core.server.methods import Methods
from sessionmesh.internal.v1 import exchange_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ExchangeService"].full_name
FRAME_BYTES = 1024 * 1024
"""Answers are added to a frame until it has this size."""


class Exchanges:
    """The open streams of one server."""

    def __init__(self, methods: Methods, max_message_bytes: int) -> None:
        self._methods = methods
        self._max_answer = max_message_bytes - _FRAME_OVERHEAD
        self._streams: set[_Stream] = set()
        self._finishing = False

    @stays
    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """One stream."""
        if self._finishing:
            return
        stream = _Stream(self._methods, context, self._max_answer)
        self._streams.add(stream)
        try:
            await stream.run(requests)
        finally:
            self._streams.discard(stream)
            stream.gone.set()

    async def finish(self, until: float) -> None:
        """Begin no more calls, answer those begun and end the streams, until the loop's time `until`."""
        self._finishing = True
        streams = [*self._streams]
        for stream in streams:
            stream.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                for stream in streams:
                    await stream.gone.wait()


class _Stream:
    def __init__(self, methods: Methods, context: Context, max_answer: int) -> None:
        self.gone = asyncio.Event()
        self._methods = methods
        self._context = context
        self._max_answer = max_answer
        self._loop = asyncio.get_running_loop()
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._answers: list[pb.Answer] = []
        self._changed = asyncio.Event()
        self._finishing = False

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Read calls and write answers until the other side has no more calls, or `finish`."""
        reading = asyncio.create_task(self._read(requests), name="exchange calls")
        try:
            while not self._finishing or self._serving or self._answers:
                await self._changed.wait()
                self._changed.clear()
                while self._answers:
                    await self._context.write(self._next_frame())
            if reading.done():
                await reading
        finally:
            reading.cancel()
            for task in self._serving.values():
                task.cancel()

    def finish(self) -> None:
        """Begin no more calls."""
        self._finishing = True
        self._changed.set()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        try:
            async for raw in requests:
                try:
                    frame = pb.ExchangeRequest.FromString(raw)
                except DecodeError:
                    raise InvalidArgument("the frame cannot be parsed", "INVALID_FIELD") from None
                if not self._finishing:
                    for call in frame.calls:
                        self._begin(call)
                for number in frame.cancelled_ids:
                    if (task := self._serving.get(number)) is not None:
                        task.cancel()
        finally:
            self.finish()

    def _begin(self, call: pb.Call) -> None:
        timeout = call.timeout_micros / 1e6 if call.timeout_micros else None
        context = GatheredContext(pairs(call.metadata), timeout)
        serving = self._serve(call.id, self._methods.unary(call.path), call.request, context)
        task = self._loop.create_task(serving, name=call.path)
        self._serving[call.id] = task
        if timeout is not None:
            context.timer = self._loop.call_later(timeout, task.cancel)

    async def _serve(self, number: int, serve: ServeBytes, request: bytes, context: GatheredContext) -> None:
        try:
            answer = pb.Answer(id=number, response=await serve(request, context.as_grpc()))
            if len(answer.response) > self._max_answer:
                answer = pb.Answer(
                    id=number,
                    code=StatusCode.RESOURCE_EXHAUSTED.value[0],
                    message="response too large",
                )
        except AbortError:
            answer = pb.Answer(id=number, code=context.status.value[0], message=context.message)
        except asyncio.CancelledError:
            if not context.expired:
                return  # nobody waits for it
            answer = pb.Answer(id=number, code=StatusCode.DEADLINE_EXCEEDED.value[0])
        finally:
            del self._serving[number]
            if context.timer is not None:
                context.timer.cancel()
            if self._finishing:
                self._changed.set()
        if context.initial:
            answer.initial_metadata.extend(entries(context.initial))
        if context.trailing:
            answer.trailing_metadata.extend(entries(context.trailing))
        self._answers.append(answer)
        self._changed.set()

    def _next_frame(self) -> bytes:
        size = count = 0
        for answer in self._answers:
            size += len(answer.response) + _FRAME_OVERHEAD
            if count and size > FRAME_BYTES:
                break
            count += 1
        frame = pb.ExchangeResponse(answers=self._answers[:count])
        del self._answers[:count]
        serialised: bytes = frame.SerializeToString()
        return serialised


_FRAME_OVERHEAD = 1024
