"""Sends many messages, batched into frames on one stream; each has a result of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from grpc import StatusCode

from mesh_client.bulk_items import MAX_FRAME_BYTES, MAX_FRAME_MESSAGES, Item, Items, entry_of
from mesh_client.bulk_stream import BulkStreams
from mesh_client.caller import Caller
from mesh_client.errors import (
    Cancelled,
    FailedPrecondition,
    InvalidArgument,
    MeshCallError,
)
from mesh_client.methods import methods_of
from mesh_client.outgoing import checked_timeout, prepared
from sessionmesh.v1 import message_pb2

Requests = Iterable[message_pb2.SendMessageRequest] | AsyncIterable[message_pb2.SendMessageRequest]


@dataclass(frozen=True, slots=True)
class BulkResult:
    """The result of one request: the message as accepted, or the error that refused it."""

    request: message_pb2.SendMessageRequest
    message: message_pb2.Message | None = None
    error: Exception | None = None


class BulkSender:
    """Sends messages of any accounts over one stream; for `async with`, which waits for all results.

    Messages without a result on a broken stream are sent again under the same request ids, so none is lost
    and none sent twice. The order is not kept: await a message before sending one that must come after it.
    """

    def __init__(self, caller: Caller, *, max_in_flight: int, timeout: float) -> None:
        if max_in_flight < 1:
            raise InvalidArgument.of("max_in_flight", "must be at least 1")
        checked_timeout(timeout)
        self._caller = caller
        self._max_in_flight = max_in_flight
        self._timeout = timeout
        self._room = asyncio.Semaphore(max_in_flight)
        self._items = Items(self._late)
        self._running: asyncio.Task[None] | None = None
        self._streams = BulkStreams(caller, self._items)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Also after an error, what was taken is still sent; after a cancellation it is not.
        if kind is None or issubclass(kind, Exception):
            await self.drain()
        await self.close()

    async def send(self, request: message_pb2.SendMessageRequest) -> asyncio.Future[message_pb2.Message]:
        """Queues a message; the future has the message as accepted, or the `MeshCallError` that refused it.

        Waits while `max_in_flight` messages have no result. Raises `InvalidArgument` for what fits into no
        frame. The request is read now and may be changed afterwards.
        """
        return await self._enqueue(self._checked(request))

    async def offer(
        self, request: message_pb2.SendMessageRequest, give: Callable[[BulkResult], None]
    ) -> None:
        """As `send`, but calls `give` with the result, which is `InvalidArgument` for a wrong request."""
        try:
            checked = self._checked(request)
            future = await self._enqueue(checked)
        except InvalidArgument as error:
            give(BulkResult(request, error=error))
        else:
            future.add_done_callback(lambda done: give(_result(checked, done)))

    async def results(self, requests: Requests) -> AsyncGenerator[BulkResult, None]:
        """Sends all of `requests` and yields each one's result as it comes.

        A request that is refused has its error as its result.
        """
        results: asyncio.Queue[BulkResult | None] = asyncio.Queue()
        room = asyncio.Semaphore(self._max_in_flight)  # bounds the results that the caller has not read yet
        count = 0

        async def feed() -> None:
            nonlocal count
            async for request in _each(requests):
                await room.acquire()
                count += 1
                await self.offer(request, results.put_nowait)

        feeding = asyncio.create_task(feed(), name="feed a bulk sender")
        feeding.add_done_callback(lambda _: results.put_nowait(None))
        given, fed = 0, False
        try:
            while not fed or given < count:
                result = await results.get()
                if result is None:
                    fed = True
                    feeding.result()  # raises what `requests` raised
                    continue
                given += 1
                room.release()
                yield result
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])

    async def drain(self) -> None:
        """Waits until every message has its result."""
        await self._items.wait_until(lambda: not self._items.by_key)

    async def close(self) -> None:
        """Stops sending; futures without a result are cancelled."""
        self._items.cancel_all()
        self._streams.close()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=_CLOSE_SECONDS)
            self._running.cancel()
            await asyncio.wait([self._running])

    def _checked(self, request: message_pb2.SendMessageRequest) -> message_pb2.SendMessageRequest:
        sent: message_pb2.SendMessageRequest = prepared(_SEND_MESSAGE, request)
        if sent.ByteSize() > MAX_FRAME_BYTES:
            raise InvalidArgument.of("content", f"must be at most {MAX_FRAME_BYTES:,} bytes")
        return sent

    async def _enqueue(self, request: message_pb2.SendMessageRequest) -> asyncio.Future[message_pb2.Message]:
        loop = asyncio.get_running_loop()
        entry = entry_of(request)
        await self._room.acquire()
        key = request.account_id, request.request_id
        try:
            if self._streams.closed:
                raise FailedPrecondition(StatusCode.FAILED_PRECONDITION, "the bulk sender is closed")
            if key in self._items.by_key:
                raise InvalidArgument.of("request_id", "is that of another message of the account on its way")
        except MeshCallError:
            self._room.release()
            raise
        future: asyncio.Future[message_pb2.Message] = loop.create_future()
        future.add_done_callback(lambda _: self._room.release())
        self._items.add(Item(key, entry, future, loop.time() + self._timeout))
        if self._running is None or self._running.done():
            # The stream outlives this call: it belongs to no trace.
            running = loop.create_task(self._streams.run(), name="bulk sender", context=contextvars.Context())
            self._running = running
        if len(self._items.waiting) >= MAX_FRAME_MESSAGES:
            await asyncio.sleep(0)  # a whole frame: let it be written
        return future

    def _late(self) -> str:
        last = f"; the last failure was {self._streams.failure}" if self._streams.failure else ""
        return (
            f"no result within {self._timeout:g} s: the message may have been accepted, "
            f"which sending it again under the same request id tells{last}"
        )


def _result(
    request: message_pb2.SendMessageRequest, future: asyncio.Future[message_pb2.Message]
) -> BulkResult:
    if future.cancelled():
        error = Cancelled(StatusCode.CANCELLED, "the bulk sender was closed before the result came")
        return BulkResult(request, error=error)
    failure = future.exception()
    if isinstance(failure, Exception):
        return BulkResult(request, error=failure)
    return BulkResult(request, message=future.result())


async def _each(requests: Requests) -> AsyncIterator[message_pb2.SendMessageRequest]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


_SEND_MESSAGE = methods_of("sessionmesh.v1.MessageService")["SendMessage"]
_CLOSE_SECONDS = 2.0
