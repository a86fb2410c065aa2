"""MessageService.SendMessages: frames of messages of any accounts, split by owner, and the results merged.

The items of a frame that one node owns go there as one call of NodeService.AcceptMessages, which is batched
with the calls of other callers. Items that a node refuses because it does not own them any more, and those
of a call whose connection broke, are sent again to their owner: request ids make that safe.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode
from grpc.aio import ServicerContext

from mesh_core.errors import InvalidField, MeshError, NotOwner
from mesh_core.rpc.peers import CallFailed
from mesh_core.rpc.peers.metadata import forwarded_metadata
from mesh_core.rpc.server import Server
from mesh_core.rpc.server.status import from_details, from_status
from mesh_router.proxy.account_id import shard_of
from mesh_router.proxy.frames import Name, failed, items, joined, refusal
from mesh_router.proxy.resolver import ClusterView
from mesh_router.proxy.retry import WAIT_WITHOUT_DEADLINE
from mesh_router.proxy.routes import Destination, Route
from mesh_router.proxy.upstreams import Upstreams
from sessionmesh.internal.v1 import node_pb2

Context = ServicerContext[Any, Any]
MAX_FRAME_ITEMS = 1000
MAX_IN_FLIGHT = 10_000
MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024
"""Most items of one stream without a result, and their size; above, the next frame is not read."""


class BulkSender:
    """Serves SendMessages on a `Server`."""

    def __init__(self, view: ClusterView, upstreams: Upstreams) -> None:
        self._view = view
        self._upstreams = upstreams

    def serve_on(self, server: Server) -> None:
        """Add the handler."""
        server.add_bytes("sessionmesh.v1.MessageService", {"SendMessages": self.serve})

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """The handler, from bytes to bytes."""
        try:
            async with asyncio.TaskGroup() as tasks:
                stream = _CallerStream(self._view, self._upstreams, context, tasks)
                await stream.run(requests)
        except BaseExceptionGroup as group:  # the first failure ended the others
            raise group.exceptions[0] from None


@dataclass(slots=True, eq=False)
class _Item:
    """A message on its way. `deadline` (of the loop's clock) is when it fails for want of an owner."""

    name: Name
    entry: bytes
    deadline: float


class _CallerStream:
    def __init__(
        self, view: ClusterView, upstreams: Upstreams, context: Context, tasks: asyncio.TaskGroup
    ) -> None:
        self._view = view
        self._upstreams = upstreams
        self._context = context
        self._tasks = tasks
        self._metadata = forwarded_metadata(context)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Item] = []
        self._open = self._open_bytes = 0
        self._settled = asyncio.Event()
        self._answering = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Returns when every item of every frame has its result."""
        async for frame in requests:
            entries = list(items(frame))
            if len(entries) > MAX_FRAME_ITEMS:
                raise InvalidField("messages", f"must have at most {MAX_FRAME_ITEMS:,} entries")
            deadline = self._loop.time() + self._wait_seconds()
            self._open += len(entries)
            self._open_bytes += sum(len(entry) for _, entry in entries)
            await self._route([_Item(name, entry, deadline) for name, entry in entries])
            await self._fewer_than(MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES)
        await self._fewer_than(1, 1)

    async def _route(self, batch: list[_Item]) -> None:
        """Send each item to its owner. Items without an owner wait."""
        by_owner: dict[str, list[_Item]] = {}
        refused: list[tuple[_Item, bytes]] = []
        for item in batch:
            try:
                owner = self._view.owner(shard_of(item.name[0]))
            except MeshError as error:
                refused.append((item, failed(item.name, error)))
                continue
            if owner is None:
                self._wait([item])
            else:
                by_owner.setdefault(owner.address, []).append(item)
        for address, part in by_owner.items():
            self._tasks.create_task(self._send(address, part), name=f"messages for {address}")
        if refused:
            await self._answer(refused)

    async def _send(self, address: str, part: list[_Item]) -> None:
        """One call to one owner."""
        frame = joined(item.entry for item in part)
        try:
            response = await self._upstreams.unary(
                address, _ACCEPT, frame, self._metadata, self._context.time_remaining()
            )
        except CallFailed as failure:
            if failure.code is not StatusCode.UNAVAILABLE or failure.reason not in _RETRYABLE:
                raise from_status(failure.code, failure.message, failure.trailing) from None
            self._wait(part)
        else:
            await self._results(part, response.body)

    async def _results(self, part: list[_Item], frame: bytes) -> None:
        unanswered: defaultdict[Name, list[_Item]] = defaultdict(list)
        for item in part:
            unanswered[item.name].append(item)
        answered = []
        again = []
        now = self._loop.time()
        for name, entry in items(frame):
            if not unanswered[name]:
                continue
            item = unanswered[name].pop()
            if _is_not_owner(entry) and now < item.deadline:
                again.append(item)
            else:
                answered.append((item, entry))
        for left in unanswered.values():
            again += left
        if again:
            self._wait(again)
        if answered:
            await self._answer(answered)

    async def _answer(self, results: list[tuple[_Item, bytes]]) -> None:
        async with self._answering:
            await self._context.write(joined(entry for _, entry in results))
        self._open -= len(results)
        self._open_bytes -= sum(len(item.entry) for item, _ in results)
        self._settled.set()

    def _wait(self, batch: list[_Item]) -> None:
        self._waiting += batch
        if self._retrying is None or self._retrying.done():
            self._retrying = self._tasks.create_task(self._retry(), name="messages without an owner")

    async def _retry(self) -> None:
        """Route waiting items again when owners change, until they are sent or their deadline passes."""
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._view.changes.wait()
            batch, self._waiting = self._waiting, []
            now = self._loop.time()
            late = [item for item in batch if item.deadline <= now]
            if late:
                await self._answer([(item, failed(item.name, NotOwner())) for item in late])
            await self._route([item for item in batch if item.deadline > now])

    async def _fewer_than(self, limit: int, limit_bytes: int) -> None:
        while self._open >= limit or self._open_bytes >= limit_bytes:
            self._settled.clear()
            await self._settled.wait()

    def _wait_seconds(self) -> float:
        remaining = self._context.time_remaining()
        if remaining is None:
            return WAIT_WITHOUT_DEADLINE
        return min(remaining - min(0.5, remaining / 4), WAIT_WITHOUT_DEADLINE)


def _is_not_owner(entry: bytes) -> bool:
    status = refusal(entry)
    return bool(status) and isinstance(from_details(status), NotOwner)


_RETRY_SECONDS = 0.1
_RETRYABLE = frozenset({"", "NOT_OWNER", "GOING_AWAY"})
_ACCEPT = Route(
    node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name,
    "AcceptMessages",
    Destination.OWNER,
    request_streaming=False,
    response_streaming=False,
    idempotent=True,
    batched=True,
)
