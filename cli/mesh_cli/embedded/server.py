"""One embedded server: a child process with its own directory, lock and log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from mesh_cli.embedded.environment import inherited
from mesh_cli.embedded.errors import ServerEnded, ServerFailed, StateInUse
from mesh_cli.embedded.lock import FileLock
from mesh_cli.embedded.ports import ChosenPorts
from mesh_core.disk import DiskFull, is_full, naming_full_disk
from mesh_parent import launcher

START_SECONDS = 30.0
STOP_SECONDS = 10.0
PREDECESSOR_SECONDS = 10.0
POLL_SECONDS = 0.005


class EmbeddedServer(ABC):
    """A real server on loopback whose data live in `state/<name>` and survive it.

    Call `start` on a thread that lives as long as the server (the main thread does): the kernel ends the
    server when the thread that started it ends, even by SIGKILL. Not for two tasks at once.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, state: Path) -> None:
        self.directory = state.absolute() / self.name
        self.log = self.directory / "server.log"
        self._owner = FileLock(self.directory / "owner.lock")
        self._server = FileLock(self.directory / "server.lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._serving = False
        self._ports = ChosenPorts()

    @property
    def pid(self) -> int:
        """The server's process id; only while it is started."""
        return self._started().pid

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect; only after `start`."""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether the server has ended by itself after `start`; not while `stop` or `start` are at it."""
        return self._serving and not self.running

    def how_it_ended(self) -> str:
        """Such as `ended with status -9`; only when it has ended."""
        return f"ended with status {self._started().returncode}"

    def note(self, line: str) -> None:
        """Add a line of ours to the server's log, if there is room."""
        with contextlib.suppress(OSError), self.log.open("a") as log:
            log.write(f"{line}\n")

    async def start(self, seconds: float = START_SECONDS) -> str:
        """Start on the directory's data, wait until it answers, and return `url`: at every start the same.

        Raises:
            StateInUse: another live process has started a server on this directory.
            DiskFull: it did not start, and there is no room left for its data.
            ServerFailed: the server ended, or did not answer within `seconds`.
        """
        with naming_full_disk(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._owner.take():
                raise StateInUse(self.directory, self._owner.holder())
        try:
            await self._until(
                self._server.take, PREDECESSOR_SECONDS, "cannot start: the server before it does not end"
            )
            await self._prepare()
            await self._ports.start(lambda: self._run_until_ready(seconds), ServerEnded)
        except BaseException as error:  # a cancelled start too
            await self.stop()
            if isinstance(error, OSError | ServerFailed) and is_full(self.directory):
                raise DiskFull(self.directory, str(error)) from error
            raise
        self._serving = True
        return self.url

    async def stop(self) -> None:
        """Stop the server and release its directory; kills it when it takes longer than STOP_SECONDS."""
        process, self._process = self._process, None
        self._serving = False
        if process is not None and process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                await asyncio.to_thread(process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
        self._server.release()
        self._owner.release()

    @abstractmethod
    async def _command(self) -> list[str]:
        """The program's absolute path and its arguments, with ports from `self._ports`."""

    @abstractmethod
    async def _ready(self) -> bool:
        """Whether the server answers a simple request now."""

    async def _prepare(self) -> None:  # noqa: B027 - most servers make their own data
        """Prepare the directory for a start; no other process uses it now."""

    def _user(self) -> str:
        """The name of the user to run as, or `-` for our own."""
        return "-"

    def _environment(self) -> Mapping[str, str]:
        """Variables the server gets besides ours."""
        return {}

    @property
    def _working_directory(self) -> Path:
        return self.directory

    def _launch(self, command: list[str], user: str) -> subprocess.Popen[bytes]:
        death = str(int(self.stop_signal))
        wrapper = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), death, user]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*wrapper, *command],
                cwd=self._working_directory,
                env={**inherited(os.environ), **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self._server.descriptor],
                start_new_session=True,  # Ctrl-C in a terminal is for us: we drain, then stop the servers
            )

    async def _run_until_ready(self, seconds: float) -> None:
        self._process = self._launch(await self._command(), self._user())
        deadline = asyncio.get_running_loop().time() + seconds
        process = self._started()
        while not (self._ports.listened_by(process.pid) and await self._ready()):
            status = process.poll()
            if status is not None:
                raise ServerEnded(self.name, f"ended with status {status}", self.log)
            if asyncio.get_running_loop().time() > deadline:
                raise ServerFailed(self.name, f"did not answer within {seconds:.0f} s", self.log)
            await asyncio.sleep(POLL_SECONDS)

    async def _until(self, condition: Callable[[], bool], seconds: float, problem: str) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                raise ServerFailed(self.name, problem)
            await asyncio.sleep(POLL_SECONDS)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed(self.name, "is not started")
        return self._process
