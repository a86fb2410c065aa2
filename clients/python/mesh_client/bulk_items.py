"""The messages of a bulk sender that have no result yet: which wait to be sent, and which for an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from grpc import StatusCode

from mesh_client.errors import DeadlineExceeded, MeshCallError
from sessionmesh.v1 import message_pb2

MAX_FRAME_MESSAGES = 1000
MAX_FRAME_BYTES = 1024 * 1024
ItemKey = tuple[str, str]
"""Account id and request id."""


@dataclass(slots=True, eq=False)
class Item:
    """One message. `entry` is its serialised part of a frame, `deadline` is on the loop's clock."""

    key: ItemKey
    entry: bytes
    future: asyncio.Future[message_pb2.Message]
    deadline: float
    attempts: int = 0


class Items:
    """All items are in `by_key`; each of them waits, is in flight, or pauses before it is sent again."""

    def __init__(self, late: Callable[[], str]) -> None:
        self.by_key: dict[ItemKey, Item] = {}
        self.waiting: deque[Item] = deque()
        self.in_flight: dict[ItemKey, Item] = {}
        self.changed = asyncio.Event()
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Item) -> None:
        """Adds an item, whose deadline must not be before those of the items already there."""
        self.by_key[item.key] = item
        item.future.add_done_callback(lambda _: self._finished(item))
        if self._timer is None:
            self._set_timer()
        self.wait(item)

    def wait(self, item: Item) -> None:
        """Makes an item wait behind all others, unless it has a result."""
        if not item.future.done():
            self.waiting.append(item)
            self.changed.set()

    def next_frame(self) -> bytes:
        """The entries of the next frame, in flight from now on; b"" when none waits."""
        entries: list[bytes] = []
        size = 0
        while self.waiting and len(entries) < MAX_FRAME_MESSAGES and size < MAX_FRAME_BYTES:
            item = self.waiting.popleft()
            if not item.future.done():
                self.in_flight[item.key] = item
                entries.append(item.entry)
                size += len(item.entry)
        return b"".join(entries)

    def take_back(self) -> None:
        """Makes what was in flight on a broken stream wait again, before everything else."""
        self.waiting.extendleft(reversed(self.in_flight.values()))
        self.in_flight.clear()
        self.changed.set()

    def answered(self, key: ItemKey) -> Item | None:
        """The item in flight that a result belongs to; it is not in flight any more."""
        return self.in_flight.pop(key, None)

    def fail_all(self, error: Exception) -> None:
        """Gives every item `error` as its result."""
        for item in list(self.by_key.values()):
            if not item.future.done():
                # One exception for each item, because raising it writes the traceback into it.
                own = type(error)(**vars(error)) if isinstance(error, MeshCallError) else error
                item.future.set_exception(own)

    def cancel_all(self) -> None:
        """Cancels the futures of all items."""
        for item in list(self.by_key.values()):
            item.future.cancel()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` is true; it is checked whenever `changed` is set."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def _finished(self, item: Item) -> None:
        # A later result is ignored, and the key may be used again.
        if self.by_key.get(item.key) is item:
            del self.by_key[item.key]
        if self.in_flight.get(item.key) is item:
            del self.in_flight[item.key]
        self.changed.set()

    def _set_timer(self) -> None:
        # The oldest comes first: that is the order in which they were added.
        oldest = next(iter(self.by_key.values()), None)
        self._timer = None
        if oldest is not None:
            self._timer = asyncio.get_running_loop().call_at(oldest.deadline, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for item in list(self.by_key.values()):
            if item.deadline > now:
                break
            if not item.future.done():
                account_id, request_id = item.key
                named = {"account_id": account_id, "request_id": request_id}
                late = DeadlineExceeded(StatusCode.DEADLINE_EXCEEDED, self._late(), metadata=named)
                item.future.set_exception(late)
        self._set_timer()


def entry_of(request: message_pb2.SendMessageRequest) -> bytes:
    """The request as field 1 of a SendMessagesRequest: frames are made by joining entries."""
    serialised = request.SerializeToString()
    length, prefix = len(serialised), b"\x0a"
    while length > 0x7F:
        prefix += bytes([length & 0x7F | 0x80])
        length >>= 7
    return prefix + bytes([length]) + serialised
