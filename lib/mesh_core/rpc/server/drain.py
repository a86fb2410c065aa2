"""What a server knows of its calls in flight, so that it can drain, and of streams that nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from mesh_core.errors import DeadlineExceeded

Handler = TypeVar("Handler", bound=Callable[..., Any])


def finishes(handler: Handler) -> Handler:
    """Mark a stream that ends by itself soon (a download): a drain waits for it as for a unary call."""
    handler.__dict__["finishes"] = True
    return handler


def taken_within(seconds: float) -> Callable[[Handler], Handler]:
    """Mark a stream that holds what others want: it ends when its caller takes a response no sooner."""

    def mark(handler: Handler) -> Handler:
        handler.__dict__["taken_within"] = seconds
        return handler

    return mark


async def taken(written: Awaitable[None], seconds: float) -> None:
    """Wait until a response is `written`; raises `DeadlineExceeded` when that takes more than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await written
    except TimeoutError:
        why = f"a response was not read within {seconds:g} s"
        raise DeadlineExceeded(why, "DEADLINE_EXCEEDED") from None


class Draining:
    """Whether the server drains. A stream may watch it, to end in its own words with a resume token."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def begun(self) -> bool:
        """True from the moment `Server.drain` is called."""
        return self._begun.is_set()

    async def wait(self) -> None:
        """Return when draining begins."""
        await self._begun.wait()

    def begin(self) -> None:
        """For the server: tell everyone."""
        self._begun.set()


class CallPeriod:
    """Calls that began in one period: before a drain, or since."""

    __slots__ = ("_empty", "count")

    def __init__(self) -> None:
        self.count = 0
        self._empty = asyncio.Event()

    def leave(self) -> None:
        """One call fewer."""
        self.count -= 1
        if self.count == 0:
            self._empty.set()

    @property
    def untouched(self) -> bool:
        """Whether no call began."""
        return self.count == 0 and not self._empty.is_set()

    async def wait_empty(self, until: float) -> int:
        """Wait for the calls to end, no longer than to the loop's time `until`; how many are left."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self.count:
                    self._empty.clear()
                    await self._empty.wait()
        return self.count


class CallsInFlight:
    """All calls being served, and among them the open streams that a drain must end."""

    __slots__ = ("_cut", "_streams", "_telling", "calls", "deaf")

    def __init__(self) -> None:
        self.calls = CallPeriod()
        self.deaf = 0
        """Calls that were given up: gRPC could not tell their callers how they ended."""
        self._telling: set[asyncio.Task[Any]] = set()
        self._streams = CallPeriod()
        self._cut: dict[asyncio.Task[Any], bool] = {}

    def new_period(self) -> CallPeriod:
        """The calls that began until now; those that begin from now on are counted apart."""
        before, self.calls = self.calls, CallPeriod()
        return before

    async def wait_quiet(self, seconds: float, until: float) -> None:
        """Wait until no call began for `seconds` and none is under way, or the loop's time is `until`."""
        now = asyncio.get_running_loop().time
        await self.new_period().wait_empty(until)
        while now() < until:
            await asyncio.sleep(min(seconds, until - now()))
            period = self.new_period()
            if period.untouched:
                return
            await period.wait_empty(until)

    def opened(self, task: asyncio.Task[Any]) -> None:
        """`task` serves a stream that would go on for ever."""
        self._streams.count += 1
        self._cut[task] = False

    def closed(self, task: asyncio.Task[Any]) -> bool:
        """It ended; True when that is because it was cut."""
        self._streams.leave()
        return self._cut.pop(task)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around telling a caller that its call has failed: that waits behind all that the caller does not
        read.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - inside a coroutine
        self._telling.add(task)
        try:
            yield
        finally:
            self._telling.discard(task)

    def give_up_deaf(self) -> None:
        """End the calls that have failed and whose callers do not hear of it."""
        for task in [*self._telling]:
            self.deaf += 1
            task.cancel()

    async def end_streams(self, until: float) -> None:
        """Let the handlers end their streams until the loop's time `until`, then cancel the others."""
        await self._streams.wait_empty(until)
        for task in self._cut:
            self._cut[task] = True
            task.cancel()
