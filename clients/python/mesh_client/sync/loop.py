"""An event loop on a thread of its own, for those who have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """Runs coroutines for any number of threads, which wait. Of one process: not for those that it forks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="mesh client", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether work can be begun."""
        return os.getpid() == self._process and not self._loop.is_closed()

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start `work`, in the caller's context; raises `RuntimeError` where that cannot be."""
        if os.getpid() != self._process:
            work.close()
            raise RuntimeError("this client was made before the process forked: connect in each process")
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("the client is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The outcome of `work`, which is cancelled when the waiting thread is interrupted."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("callbacks must not call the client: it waits for them")
        future = self.begin(work)
        try:
            return future.result()
        except BaseException:  # Ctrl-C, too
            future.cancel()  # no more than a word when it has ended by itself
            raise

    def iterate(self, items: AsyncGenerator[Result, None]) -> Iterator[Result]:
        """The items, one by one; leaving early ends what makes them."""
        try:
            while True:
                try:
                    yield self.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            with suppress(RuntimeError):  # the client is closed, and with it all that it did
                self.begin(_close(items))

    def close(self) -> None:
        """Cancel what runs, and end the thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


async def _next(items: AsyncGenerator[Result, None]) -> Result:
    return await anext(items)


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
