"""A real mesh: `mesh up` as a process, and what a test does with it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from typer.testing import CliRunner, Result

from mesh_cli.__main__ import app
from mesh_cli.embedded import free_port
from mesh_cli.up.state import MeshFile, running_mesh
from tests.support.eventually import wait_until

START_SECONDS = 120.0
STOP_SECONDS = 60.0
TAIL_LINES = 30
CONNECTION_VARIABLES = ("MESH_ADDRESS", "MESH_API_KEY", "MESH_STATE", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a mesh ended: its exit code, and which of its processes are still there."""

    code: int
    left: list[psutil.Process]


class MeshProcess:
    """`mesh up` on a state directory, with `arguments` more. `environment` is added to ours."""

    def __init__(
        self,
        state: Path,
        *arguments: str,
        nodes: int = 3,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state
        self.port = port or free_port()
        self._output = state.parent / f"{state.name}-{self.port}.out"
        self._arguments = ["up", "--state", str(state), "--port", str(self.port), "--nodes", str(nodes)]
        self._arguments += arguments
        self._environment = {**clean_environment(), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not launched"
        return self._process

    @property
    def output(self) -> str:
        """All that it printed until now."""
        return self._output.read_text(errors="replace")

    @property
    def file(self) -> MeshFile:
        """mesh.json as it is now: a part that was restarted has another pid."""
        found = running_mesh(self.state)
        assert found is not None, f"no mesh runs on {self.state}\n{self.report()}"
        return found

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it, without waiting for anything."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mesh_cli", *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(self) -> MeshFile:
        """Start it and wait until it says that every part is ready."""
        self.launch()
        return wait_until(self._running, START_SECONDS, f"a running mesh\n{self.report()}\nIt")

    def until_step(self, step: str) -> None:
        """Wait until it says that it does `step`, and has a process doing it."""

        def begun() -> bool:
            assert self.process.poll() is None, f"mesh up ended early\n{self.report()}"
            return step in self.output and bool(self.family())

        wait_until(begun, START_SECONDS, f"the step {step!r}")

    def stop(self) -> Ended:
        """Ctrl-C, as in a terminal, and wait for the end."""
        family = self.family()
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(STOP_SECONDS)
        return Ended(code, [one for one in family if one.is_running()])

    def family(self) -> list[psutil.Process]:
        """All processes that it started and that live now."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def ensure_gone(self) -> None:
        """End it the hard way, if it still runs: for the end of a test that failed."""
        if self._process is not None and self._process.poll() is None:
            family = self.family()
            self._process.kill()
            self._process.wait()
            for one in family:
                if one.is_running():
                    one.kill()

    def kill_part(self, name: str) -> int:
        """SIGKILL one part, below its watchdog if it has one; its pid."""
        pid = self.file.parts[name].pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_watchdog(self, name: str) -> int:
        """SIGKILL the watchdog of a part; its pid."""
        pid = self.file.parts[name].watchdog_pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def report(self) -> str:
        """The end of its output and of every log, for a failure."""
        places = [self._output, *sorted((self.state / "logs").glob("*.log"))]
        return "\n".join(f"--- {place}\n{_tail(place)}" for place in places if place.exists())

    def _running(self) -> MeshFile | None:
        if (code := self.process.poll()) is not None:
            raise AssertionError(f"mesh up ended with {code}\n{self.report()}")
        return running_mesh(self.state)


def run_mesh(*arguments: str, seconds: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    """One `mesh` command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mesh_cli", *arguments],
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def run_mesh_here(*arguments: str, **environment: str) -> Result:
    """The same in this process, which spares its start, two seconds of a processor.

    For what a command says and does, not how a process ends. On a thread, as it makes an event loop.
    """
    variables = dict.fromkeys(CONNECTION_VARIABLES) | environment
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(CliRunner().invoke, app, arguments, env=variables).result()


def clean_environment() -> dict[str, str]:
    """Ours, without what would lead a command to another mesh."""
    return {name: value for name, value in os.environ.items() if name not in CONNECTION_VARIABLES}


def _tail(place: Path) -> str:
    return "\n".join(place.read_text(errors="replace").splitlines()[-TAIL_LINES:])
