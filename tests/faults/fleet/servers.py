"""Backing servers whose process a test kills, freezes, wipes and starts again, always at the same address."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres, EmbeddedServer
from tests.support.eventually import eventually

GONE_SECONDS = 20.0


class ServerFaults(EmbeddedServer):
    """What can happen to a server. `start` is the way back after `kill`; the data stay unless wiped."""

    async def kill(self) -> None:
        """SIGKILL, for its children too, as when the machine loses power."""
        for process in [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]:
            process.kill()
        await self.stop()

    async def restart(self) -> None:
        """Kill it, and start it on the same data."""
        await self.kill()
        await self.start()

    async def wipe(self) -> None:
        """Kill it, and start it with no data."""
        await self.kill()
        shutil.rmtree(self.data)
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


class Etcd(ServerFaults, EmbeddedEtcd):
    """A lone etcd."""


class Postgres(ServerFaults, EmbeddedPostgres):
    """A Postgres that also remembers when each transaction committed."""

    def __init__(self, state: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(state, {"track_commit_timestamp": "on", **(settings or {})})

    def freeze(self) -> None:
        """All its processes: the sessions' backends answer without the postmaster."""
        for process in self._family():
            process.suspend()

    def thaw(self) -> None:
        for process in self._family():
            process.resume()

    async def kill(self) -> None:
        """SIGKILL; waits for the backends, which notice a dead postmaster by themselves."""
        family = self._family()
        await super().kill()
        await eventually(
            lambda: not any(process.is_running() for process in family), GONE_SECONDS, "no Postgres process"
        )

    def _family(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self.pid)
        return [postmaster, *postmaster.children(recursive=True)]
