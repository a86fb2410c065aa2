"""Messages of any accounts in one call: MessageService.BatchSendMessages, and SendMessages as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from grpc.aio import ServicerContext

from mesh_core.errors import InvalidField, MeshError
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server import Server
from mesh_core.validation import MAX_BATCH
from mesh_router.proxy.dispatch import Dispatch, Item, overdue
from mesh_router.proxy.frames import Name, failed, items, joined
from mesh_router.proxy.resolver import ClusterView
from mesh_router.proxy.upstreams import Upstreams

Context = ServicerContext[Any, Any]
Messages = list[tuple[Name, bytes]]
MAX_IN_FLIGHT = 10_000
MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024
"""Most items of one stream without a result, and their size. The next frame is read while there is room for
one like the last.
"""


class BulkSender:
    """Serves both on a `Server`."""

    def __init__(self, view: ClusterView, upstreams: Upstreams, entry: Entry | None = None) -> None:
        """`entry` counts each message."""
        self._view = view
        self._upstreams = upstreams
        self._entry = entry or Entry()

    def serve_on(self, server: Server) -> None:
        """Add the handlers."""
        server.add_bytes(
            "sessionmesh.v1.MessageService",
            {"SendMessages": self.serve_stream, "BatchSendMessages": self.serve_batch},
        )

    async def serve_stream(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """The handler of SendMessages, from bytes to bytes."""
        async with _raising_the_first(), asyncio.TaskGroup() as tasks:
            stream = _Stream(context)
            dispatch = Dispatch(self._view, self._upstreams, context, tasks, stream.settle)
            async for frame in requests:
                messages = _checked(items(frame))
                stream.opened(messages)
                await dispatch.send(messages, await self._refusals(messages, context))
                size = len(frame)
                del frame, messages  # else they stay as long as the next frame is waited for
                await stream.fewer_than(MAX_IN_FLIGHT, max(MAX_IN_FLIGHT_BYTES - size, 1))
            await stream.fewer_than(1, 1)

    async def serve_batch(self, request: bytes, context: Context) -> bytes:
        """The handler of BatchSendMessages, from bytes to bytes.

        Shortly before the caller's deadline what has no result fails by itself, so that the caller has the
        results of the rest.
        """
        messages = _checked(items(request))
        if not messages:
            raise InvalidField("messages", "is required")
        results = [b""] * len(messages)
        settled = asyncio.Event()
        left = len(messages)

        async def settle(given: list[tuple[Item, bytes]]) -> None:
            nonlocal left
            for item, result in given:
                results[item.place] = result
            left -= len(given)
            if left == 0:
                settled.set()

        remaining = context.time_remaining()
        seconds = None if remaining is None else remaining - min(0.25, remaining / 8)
        async with _raising_the_first(), asyncio.TaskGroup() as tasks:
            dispatch = Dispatch(self._view, self._upstreams, context, tasks, settle)
            await dispatch.send(messages, await self._refusals(messages, context))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await settled.wait()
            dispatch.stop()
        return joined(
            result or failed(name, overdue()) for result, (name, _) in zip(results, messages, strict=True)
        )

    async def _refusals(self, messages: Messages, context: Context) -> list[MeshError | None]:
        """Why messages are over a limit; they are refused one by one."""
        return await self._entry.admit_messages(context, [account for (account, _), _ in messages])


class _Stream:
    """The answers of one stream, and how many are still to come."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._open = self._open_bytes = 0
        self._settled = asyncio.Event()
        self._answering = asyncio.Lock()

    def opened(self, messages: Messages) -> None:
        """These have come."""
        self._open += len(messages)
        self._open_bytes += sum(len(entry) for _, entry in messages)

    async def settle(self, given: list[tuple[Item, bytes]]) -> None:
        """See `Settle`."""
        async with self._answering:
            await self._context.write(joined(result for _, result in given))
        self._open -= len(given)
        self._open_bytes -= sum(len(item.entry) for item, _ in given)
        self._settled.set()

    async def fewer_than(self, limit: int, limit_bytes: int) -> None:
        """Wait until fewer items, and bytes of them, have no result."""
        while self._open >= limit or self._open_bytes >= limit_bytes:
            self._settled.clear()
            await self._settled.wait()


@asynccontextmanager
async def _raising_the_first() -> AsyncIterator[None]:
    """For a group of tasks: the first failure ended the others."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def _checked(messages: Messages) -> Messages:
    if len(messages) > MAX_BATCH:
        raise InvalidField("messages", f"must have at most {MAX_BATCH:,} entries")
    return messages
