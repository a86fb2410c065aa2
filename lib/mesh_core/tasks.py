"""Background tasks: each has a name, and one that fails stops the process with its reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

from mesh_core.metrics import Open, gauges

logger = structlog.get_logger(__name__)

RUNNING = gauges(
    "mesh_background_tasks",
    "Background tasks that run, by name.",
    answers="Does everything run that should go on by itself?",
    task=Open("names that background tasks have in the code", 200),
)


class Supervisor:
    """Runs tasks until it is closed; `on_failure(name, error)` is called for each that raises."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` as a task. It may return when it has nothing left to do; raising is a failure. Names are
        few: each is a value of a label.
        """
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = None
        RUNNING.labels(name).inc()
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancel what runs, the youngest first, each after the one before it has ended."""
        while self._tasks:
            task, _ = self._tasks.popitem()
            task.cancel()
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        RUNNING.labels(task.get_name()).dec()
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        assert error is not None  # noqa: S101 - checked above
        logger.error("background task failed", task=task.get_name(), exc_info=error)
        self._on_failure(task.get_name(), error)
