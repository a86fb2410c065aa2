"""A service's process: from its settings to its exit code.

    async def main(settings: RouterSettings, stop: Stop) -> None:
        async with Supervisor(stop.fail) as supervisor:
            ...                              # parts
            await server.start()             # serve
            await stop.wait()                # until the first signal, or a failed task
            await server.drain()
            await server.stop()

    if __name__ == "__main__":
        run("sessionmesh-router", RouterSettings, main)

The first SIGTERM or SIGINT asks to drain: `stop.wait()` returns. The second one stops: `main` is cancelled
where it is, and the process is gone within two seconds even if that takes longer.

| exit code | |
|---|---|
| 0 | drained and stopped |
| 64 | bad settings, or ones that would leave the process open to others (`exposure`) |
| 69 | could not start: a taken port, a backing server that does not answer |
| 70 | a defect: `main` or a background task failed |
| 78 | an operator has to change something first: too few open files, another version's schema or server |
| 128 + signal | stopped by the second signal |
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn, Protocol, TypeVar

import structlog
import uvloop

from mesh_core.errors import Misconfigured, StartupError
from mesh_core.process import logs
from mesh_core.process.exposure import refuse_exposed
from mesh_core.process.start_checks import make_room, refuse_stranger
from mesh_core.settings import (
    EXIT_BAD_SETTINGS,
    BadSettings,
    ServerSettings,
    TelemetrySettings,
    load,
    secrets_of,
)
from mesh_core.telemetry import metrics_page, tracing
from mesh_core.telemetry.redaction import Redaction

logger = structlog.get_logger(__name__)

EXIT_UNAVAILABLE = 69
EXIT_FAILED = 70
EXIT_MISCONFIGURED = 78


class ServiceSettings(Protocol):
    """Every service's settings have these sections."""

    @property
    def server(self) -> ServerSettings: ...

    @property
    def telemetry(self) -> TelemetrySettings: ...


S = TypeVar("S", bound=ServiceSettings)


class Stop:
    """Whether the process is asked to end, and why."""

    def __init__(self) -> None:
        self.reason = ""
        self.failed = False
        self._asked = asyncio.Event()

    @property
    def asked(self) -> bool:
        """True from the first signal, or the first failure, on."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return when the process shall drain."""
        await self._asked.wait()

    def ask(self, reason: str) -> None:
        """Make the process drain and end well."""
        if not self.asked:
            logger.info("draining", reason=reason)
            self.reason = reason
            self._asked.set()

    def fail(self, name: str, error: BaseException) -> None:
        """Make the process drain and end with exit code 70: what a `Supervisor` does when a task fails."""
        self.failed = True
        self.ask(f"{name} failed: {error!r}")


def run(service: str, settings: type[S], main: Callable[[S, Stop], Awaitable[None]]) -> NoReturn:
    """Load `settings`, set up logs and traces as `service`, run `main` on uvloop, and exit."""
    gc.set_threshold(*_GC_THRESHOLD)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    loaded: S = load(settings)
    redaction = Redaction(secrets_of(loaded))
    _refuse(loaded, redaction)
    logs.configure(service, loaded.telemetry, redaction)
    tracing.configure(service, loaded.telemetry)
    metrics_page.describe_process(service, service_version())
    code, reason = uvloop.run(_serve(main, loaded))
    tracing.shutdown()  # may still log something, before the reason
    if reason:
        _end(redaction.text(reason), code)
    sys.exit(code)


def _refuse(settings: ServiceSettings, redaction: Redaction) -> None:
    """Exit, with the reason as the last line, where these settings would harm or this machine will not do."""
    try:
        refuse_stranger(settings)
        refuse_exposed(settings)
        node = getattr(settings, "node", None)
        make_room(node.capacity if node else 0)
    except BadSettings as error:
        _end(redaction.text(str(error)), EXIT_BAD_SETTINGS)
    except Misconfigured as error:
        _end(redaction.text(str(error)), EXIT_MISCONFIGURED)


def _end(reason: str, code: int) -> NoReturn:
    sys.stderr.write(f"{reason}\n")
    sys.exit(code)


async def _serve(main: Callable[[S, Stop], Awaitable[None]], settings: S) -> tuple[int, str]:
    """The exit code, and why the process could not start."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    metrics_page.watch_loop(loop)
    task = asyncio.ensure_future(main(settings, stop))
    killed = 0

    def on_signal(number: signal.Signals) -> None:
        nonlocal killed
        if not stop.asked:
            stop.ask(number.name)
            return
        killed = 128 + number
        task.cancel()
        loop.call_later(_CANCEL_SECONDS, os._exit, killed)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await task
    except asyncio.CancelledError:
        return killed or EXIT_FAILED, ""
    except StartupError as error:
        return EXIT_MISCONFIGURED if isinstance(error, Misconfigured) else EXIT_UNAVAILABLE, str(error)
    except Exception:  # whatever it is, the process says so and ends
        logger.exception("the service failed")
        return EXIT_FAILED, ""
    return EXIT_FAILED if stop.failed else 0, ""


def service_version() -> str:
    """The release that runs."""
    try:
        return version("sessionmesh")
    except PackageNotFoundError:
        return "unknown"


_CANCEL_SECONDS = 2.0  # how long `main` gets to end after it was cancelled
# gRPC's own thread needs the interpreter for every event, and waits so long for a busy loop to hand it over.
# At Python's own 5 ms a router that told 5,000 clients of a change missed pings, and lost connections.
_SWITCH_INTERVAL = 0.0005
# A call leaves hardly any cycles. At Python's own thresholds (700, 10, 10) a sampling profile of a busy
# session-node had 6 % of the main thread's samples in the collector.
_GC_THRESHOLD = (20_000, 20, 50)
