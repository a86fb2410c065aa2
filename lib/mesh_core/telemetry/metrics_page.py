"""The /metrics page of a process, what it says of the process itself, and whether that lives and is ready."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from time import perf_counter

from mesh_core.errors import StartupError
from mesh_core.metrics import Open, histogram, info
from mesh_core.telemetry.page_server import PageServer

LAG_SECONDS = 0.25
"""How often the event loop is looked at."""
STALLED_SECONDS = 10.0
"""An event loop that has not turned for so long is held up by a defect, not by work."""


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """The running /metrics page."""

    port: int
    _server: PageServer

    def close(self) -> None:
        """Stop answering, within half a second: the standard library's server looks up only that often."""
        Thread(target=self._close, name="metrics page closing", daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def serve_metrics(listen: str, unready: Callable[[], str], unstarted: Callable[[], str]) -> MetricsPage:
    """Answer /metrics on `listen` (host:port) from a thread; raises `StartupError` on a taken port.

    /readyz is 503 with `unready`'s reason, 200 without; /healthz likewise with that of an event loop that
    stands still; /startupz with that, or `unstarted`'s.
    """
    host, _, port = listen.rpartition(":")
    checks = {"/readyz": unready, "/healthz": _stalled, "/startupz": lambda: _stalled() or unstarted()}
    try:
        server = PageServer(host.strip("[]"), int(port), checks)
    except OSError as error:
        raise StartupError(f"metrics cannot be served on {listen}: {error.strerror}") from None
    return MetricsPage(server.server_port, server)


def describe_process(service: str, version: str) -> None:
    """Say on the page whose metrics these are."""
    _TARGET.labels(service, version)
    _BUILD.labels(version, platform.python_version())


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Measure from now on how late the event loop is."""
    global _due  # noqa: PLW0603 - a process has one event loop that serves
    due = _due = perf_counter() + LAG_SECONDS

    def look() -> None:
        _LAG.observe(max(0.0, perf_counter() - due))
        watch_loop(loop)

    loop.call_later(LAG_SECONDS, look)


def _stalled() -> str:
    late = perf_counter() - _due
    return f"the event loop has not turned for {late:.0f} s" if late >= STALLED_SECONDS else ""


_due = float("inf")
"""When the event loop is to be looked at next; infinity where nobody watches one."""
_TARGET = info(
    "target_info",
    "The part behind this page.",
    answers="Which part is this?",
    service_name=Open("names of the parts", 1),
    service_version=Open("the release that runs", 1),
)
_BUILD = info(
    "mesh_build_info",
    "The release that runs, and Python's.",
    answers="Does every part run the release that it should?",
    version=Open("the release that runs", 1),
    python_version=Open("Python's release", 1),
)
_LAG = histogram(
    "mesh_event_loop_lag_seconds",
    "How late the event loop came to what was due, four times a second.",
    answers="Is the process busy, or held up by something that does not yield?",
)
