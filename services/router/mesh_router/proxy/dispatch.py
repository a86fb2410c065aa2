"""Sends messages of any accounts to their owners, and again when owners change, until each has a result.

The items that one node owns go there as one call of NodeService.AcceptMessages, which is batched with the
calls of other callers. Items that a node refuses because it does not own them any more, and those of a call
whose connection broke, are sent again to their owner: request ids make that safe.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from grpc import StatusCode
from grpc.aio import ServicerContext

from mesh_core.errors import DeadlineExceeded, MeshError, NotOwner
from mesh_core.rpc.account_id import shard_of
from mesh_core.rpc.peers import CallFailed
from mesh_core.rpc.peers.metadata import forwarded_metadata
from mesh_core.rpc.server.status import from_details, from_status
from mesh_router.proxy.frames import Name, failed, joined, results
from mesh_router.proxy.resolver import ClusterView
from mesh_router.proxy.retry import WAIT_WITHOUT_DEADLINE
from mesh_router.proxy.routes import Destination, Route
from mesh_router.proxy.upstreams import Upstreams
from sessionmesh.internal.v1 import node_pb2

Context = ServicerContext[Any, Any]


@dataclass(slots=True, eq=False)
class Item:
    """A serialised message on its way. `deadline` (of the loop's clock) is when it fails for want of an
    owner, `place` its place in the caller's request.
    """

    name: Name
    entry: bytes
    deadline: float
    place: int


Settle = Callable[[list[tuple[Item, bytes]]], Awaitable[None]]
"""Takes items with their results, serialised."""


class Dispatch:
    """The items of one call. `settle` is given every item once; `tasks` run what waits for it."""

    def __init__(
        self,
        view: ClusterView,
        upstreams: Upstreams,
        context: Context,
        tasks: asyncio.TaskGroup,
        settle: Settle,
    ) -> None:
        self._view = view
        self._upstreams = upstreams
        self._context = context
        self._tasks = tasks
        self._settle = settle
        self._metadata = forwarded_metadata(context)
        self._loop = asyncio.get_running_loop()
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: list[Item] = []
        self._retrying: asyncio.Task[None] | None = None

    async def send(
        self, messages: Iterable[tuple[Name, bytes]], refusals: Sequence[MeshError | None]
    ) -> None:
        """Send these to their owners, but those that have a refusal. Those without an owner wait for one."""
        deadline = self._loop.time() + self._wait_seconds()
        batch = [Item(name, entry, deadline, place) for place, (name, entry) in enumerate(messages)]
        refused = [
            (item, failed(item.name, error))
            for item, error in zip(batch, refusals, strict=True)
            if error is not None
        ]
        if refused:
            await self._settle(refused)
            batch = [item for item, error in zip(batch, refusals, strict=True) if error is None]
        await self._route(batch)

    def stop(self) -> None:
        """Send nothing any more, and wait for nothing."""
        for task in self._running:
            task.cancel()

    async def _route(self, batch: list[Item]) -> None:
        by_owner: dict[str, list[Item]] = {}
        refused: list[tuple[Item, bytes]] = []
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
            self._start(self._send(address, part), f"messages for {address}")
        if refused:
            await self._settle(refused)

    async def _send(self, address: str, part: list[Item]) -> None:
        """One call to one owner."""
        try:
            response = await self._upstreams.unary(
                address,
                _ACCEPT,
                joined(item.entry for item in part),  # gone with the answer, which its caller may not read
                self._metadata,
                self._context.time_remaining(),
            )
        except CallFailed as failure:
            if failure.code is StatusCode.UNAVAILABLE and failure.reason in _RETRYABLE:
                self._wait(part)
                return
            error = from_status(failure.code, failure.message, failure.trailing)
            await self._settle([(item, failed(item.name, error)) for item in part])
        else:
            await self._take(part, response.body)

    async def _take(self, part: list[Item], frame: bytes) -> None:
        unanswered: defaultdict[Name, deque[Item]] = defaultdict(deque)
        for item in part:
            unanswered[item.name].append(item)
        answered = []
        again = []
        now = self._loop.time()
        for result in results(frame):
            if not unanswered[result.name]:
                continue
            item = unanswered[result.name].popleft()
            if result.refusal and now < item.deadline and _is_not_owner(result.refusal):
                again.append(item)
            else:
                answered.append((item, result.raw))
        for left in unanswered.values():
            again += left
        if again:
            self._wait(again)
        if answered:
            await self._settle(answered)

    def _wait(self, batch: list[Item]) -> None:
        self._waiting += batch
        if self._retrying is None or self._retrying.done():
            self._retrying = self._start(self._retry(), "messages without an owner")

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
                await self._settle([(item, failed(item.name, NotOwner())) for item in late])
            await self._route([item for item in batch if item.deadline > now])

    def _start(self, work: Any, name: str) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _wait_seconds(self) -> float:
        remaining = self._context.time_remaining()
        if remaining is None:
            return WAIT_WITHOUT_DEADLINE
        return min(remaining - min(0.5, remaining / 4), WAIT_WITHOUT_DEADLINE)


def overdue() -> MeshError:
    """Why an item failed whose outcome did not come in time: it may have been accepted."""
    return DeadlineExceeded("the owner did not answer in time", "DEADLINE_EXCEEDED")


def _is_not_owner(status: bytes) -> bool:
    return isinstance(from_details(status), NotOwner)


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
