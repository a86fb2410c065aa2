"""MessageService.SendMessages: frames of messages of any accounts, split by owner, results merged.

Each caller's stream has one stream to each owner that it needs. Items that a node refuses because it is not
the owner any more, and items in flight on a stream that broke, are sent again to whoever owns them then:
their request ids make that harmless.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError, ServicerContext

from mesh_core.errors import InvalidField, MeshError, NotOwner
from mesh_core.server import Server
from mesh_core.server.status import from_details, from_rpc_error
from mesh_router.proxy.account_id import shard_of
from mesh_router.proxy.forward import WAIT_WITHOUT_DEADLINE, forwarded_metadata
from mesh_router.proxy.frames import Name, failed, items, joined, refusal
from mesh_router.proxy.peers import Peers
from mesh_router.proxy.routes import SERVICE, Route, Toward
from mesh_router.proxy.sending import half_close, send
from mesh_router.proxy.targets import Ownership

Context = ServicerContext[Any, Any]
MAX_FRAME_ITEMS = 1000
MAX_IN_FLIGHT = 10_000
"""Items of one caller's stream without a result; above, the next frame is not read."""


class BulkSender:
    """Serves SendMessages on a `Server`."""

    def __init__(self, view: Ownership, peers: Peers) -> None:
        self._view = view
        self._peers = peers

    def serve_on(self, server: Server) -> None:
        """Add the handler."""
        server.add_bytes(SERVICE.format("MessageService"), {"SendMessages": self.serve})

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """One caller's stream."""
        try:
            async with asyncio.TaskGroup() as tasks:
                stream = _CallerStream(self._view, self._peers, context, tasks)
                try:
                    await stream.run(requests)
                finally:
                    stream.close()
        except BaseExceptionGroup as group:  # the first failure ended the others
            raise group.exceptions[0] from None


@dataclass(slots=True, eq=False)
class _Item:
    name: Name
    entry: bytes
    until: float


@dataclass(slots=True, eq=False)
class _Lane:
    """The stream to one owner, and what it has not answered yet."""

    call: Any
    in_flight: defaultdict[Name, list[_Item]] = field(default_factory=lambda: defaultdict(list))
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    reader: asyncio.Task[None] | None = None


class _CallerStream:
    def __init__(self, view: Ownership, peers: Peers, context: Context, tasks: asyncio.TaskGroup) -> None:
        self._view = view
        self._peers = peers
        self._context = context
        self._tasks = tasks
        self._metadata = forwarded_metadata(context)
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, _Lane] = {}
        self._waiting: list[_Item] = []
        self._open = 0
        self._less = asyncio.Event()
        self._answering = asyncio.Lock()
        self._retrying: asyncio.Task[None] | None = None

    async def run(self, requests: AsyncIterator[bytes]) -> None:
        """Until every item of every frame has its result."""
        async for frame in requests:
            cut = list(items(frame))
            if len(cut) > MAX_FRAME_ITEMS:
                raise InvalidField("messages", f"must have at most {MAX_FRAME_ITEMS:,} entries")
            until = self._loop.time() + self._patience()
            self._open += len(cut)
            await self._route([_Item(name, entry, until) for name, entry in cut])
            await self._fewer_than(MAX_IN_FLIGHT)
        await self._fewer_than(1)
        lanes = list(self._lanes.values())
        readers = [lane.reader for lane in lanes if lane.reader is not None]
        for lane in lanes:
            await half_close(lane.call)
        if readers:
            await asyncio.wait(readers, timeout=_ENDING)

    def close(self) -> None:
        """End the streams to the owners and whatever still runs for this caller."""
        for lane in self._lanes.values():
            lane.call.cancel()
            if lane.reader is not None:
                lane.reader.cancel()
        if self._retrying is not None:
            self._retrying.cancel()

    async def _route(self, batch: list[_Item]) -> None:
        """Send each item to its owner; those without one wait."""
        by_owner: dict[str, list[_Item]] = {}
        refused: list[bytes] = []
        for item in batch:
            try:
                owner = self._view.owner(shard_of(item.name[0]))
            except MeshError as error:
                refused.append(failed(item.name, error))
                continue
            if owner is None:
                self._wait(item)
            else:
                by_owner.setdefault(owner.address, []).append(item)
        if refused:
            await self._answer(refused)
        for address, part in by_owner.items():
            lane = self._lanes.get(address) or self._open_lane(address)
            for item in part:
                lane.in_flight[item.name].append(item)
            async with lane.sending:
                # When the call has ended, its reader routes what is in flight anew.
                await send(lane.call, joined(item.entry for item in part))

    def _open_lane(self, address: str) -> _Lane:
        call = self._peers.callable(address, _ROUTE)(
            timeout=self._context.time_remaining(), metadata=self._metadata
        )
        lane = self._lanes[address] = _Lane(call)
        lane.reader = self._tasks.create_task(self._read(address, lane), name=f"bulk results of {address}")
        return lane

    async def _read(self, address: str, lane: _Lane) -> None:
        try:
            async for frame in lane.call:
                await self._results(lane, frame)
        except AioRpcError as error:
            if error.code() is not StatusCode.UNAVAILABLE:
                raise from_rpc_error(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The node ended the stream with CANCELLED, which grpc.aio shows like this.
        # The node is gone, or drains.
        if self._lanes.get(address) is lane:
            del self._lanes[address]
        for same_name in lane.in_flight.values():
            for item in same_name:
                self._wait(item)

    async def _results(self, lane: _Lane, frame: bytes) -> None:
        answered = []
        for name, entry in items(frame):
            same_name = lane.in_flight.get(name)
            if not same_name:
                continue
            item = same_name.pop()
            if not same_name:
                del lane.in_flight[name]
            if _is_not_owner(entry) and self._loop.time() < item.until:
                self._wait(item)
            else:
                answered.append(entry)
        if answered:
            await self._answer(answered)

    async def _answer(self, entries: list[bytes]) -> None:
        async with self._answering:
            await self._context.write(joined(entries))
        self._open -= len(entries)
        self._less.set()

    def _wait(self, item: _Item) -> None:
        self._waiting.append(item)
        if self._retrying is None or self._retrying.done():
            self._retrying = self._tasks.create_task(self._retry(), name="bulk items without an owner")

    async def _retry(self) -> None:
        """Route waiting items again when owners change, until they are sent or their time is up."""
        while self._waiting:
            changed = self._view.changed
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await changed.wait()
            batch, self._waiting = self._waiting, []
            now = self._loop.time()
            late = [item for item in batch if item.until <= now]
            if late:
                await self._answer([failed(item.name, NotOwner()) for item in late])
            await self._route([item for item in batch if item.until > now])

    async def _fewer_than(self, limit: int) -> None:
        while self._open >= limit:
            self._less.clear()
            await self._less.wait()

    def _patience(self) -> float:
        remaining = self._context.time_remaining()
        if remaining is None:
            return WAIT_WITHOUT_DEADLINE
        return min(remaining - min(0.5, remaining / 4), WAIT_WITHOUT_DEADLINE)


def _is_not_owner(entry: bytes) -> bool:
    status = refusal(entry)
    return bool(status) and isinstance(from_details(status), NotOwner)


_PAUSE = 0.1
_ENDING = 1.0
_ROUTE = Route(
    SERVICE.format("MessageService"),
    "SendMessages",
    Toward.OWNER,
    request_streaming=True,
    response_streaming=True,
    repeatable=True,
)
