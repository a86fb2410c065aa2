"""The items of a bulk sender: who waits to be sent, who for an answer, and until when."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from grpc import StatusCode

from mesh_client.errors import DeadlineExceeded, MeshCallError
from sessionmesh.v1 import message_pb2

MOST_IN_FRAME = 1000
FRAME_BYTES = 1024 * 1024
Name = tuple[str, str]
"""Account and request id."""


@dataclass(slots=True, eq=False)
class Item:
    """One message. `entry` is its place in a frame, serialised."""

    name: Name
    entry: bytes
    future: asyncio.Future[message_pb2.Message]
    until: float
    attempts: int = 0


class Items:
    """Everything that has no result yet. Each item is in `by_name`, and waits or is in flight or pauses."""

    def __init__(self, late: Callable[[], str]) -> None:
        self.by_name: dict[Name, Item] = {}
        self.waiting: deque[Item] = deque()
        self.in_flight: dict[Name, Item] = {}
        self.changed = asyncio.Event()
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Item) -> None:
        """A new one. They are added in the order of their deadlines."""
        self.by_name[item.name] = item
        item.future.add_done_callback(lambda _: self._finished(item))
        if self._timer is None:
            self._set_timer()
        self.wait(item)

    def wait(self, item: Item) -> None:
        """Put it behind all that wait; no longer if it has a result."""
        if not item.future.done():
            self.waiting.append(item)
            self.changed.set()

    def next_frame(self) -> bytes:
        """The entries of the next frame, in flight from now on; b"" when none waits."""
        entries: list[bytes] = []
        size = 0
        while self.waiting and len(entries) < MOST_IN_FRAME and size < FRAME_BYTES:
            item = self.waiting.popleft()
            if not item.future.done():
                self.in_flight[item.name] = item
                entries.append(item.entry)
                size += len(item.entry)
        return b"".join(entries)

    def take_back(self) -> None:
        """What was in flight waits again, before all else: the stream that it was on is gone."""
        self.waiting.extendleft(reversed(self.in_flight.values()))
        self.in_flight.clear()
        self.changed.set()

    def answered(self, name: Name) -> Item | None:
        """The item in flight that a result is for."""
        return self.in_flight.pop(name, None)

    def fail_all(self, error: Exception) -> None:
        """Nothing can be sent, because of `error`."""
        for item in list(self.by_name.values()):
            if not item.future.done():
                # Its own one each: raising an exception writes its traceback into it.
                own = type(error)(**vars(error)) if isinstance(error, MeshCallError) else error
                item.future.set_exception(own)

    def cancel_all(self) -> None:
        """Give up."""
        for item in list(self.by_name.values()):
            item.future.cancel()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition`, which is about these items or whoever sets `changed`, is true."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def _finished(self, item: Item) -> None:
        # A result that comes now is for nobody; the name may be used again.
        if self.by_name.get(item.name) is item:
            del self.by_name[item.name]
        if self.in_flight.get(item.name) is item:
            del self.in_flight[item.name]
        self.changed.set()

    def _set_timer(self) -> None:
        # The oldest comes first: that is the order in which they were added.
        oldest = next(iter(self.by_name.values()), None)
        self._timer = None
        if oldest is not None:
            self._timer = asyncio.get_running_loop().call_at(oldest.until, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for item in list(self.by_name.values()):
            if item.until > now:
                break
            if not item.future.done():
                account_id, request_id = item.name
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
