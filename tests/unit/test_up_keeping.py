"""Servers that end by themselves are started again, and it is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mesh_cli.embedded import EmbeddedServer, ServerFailed
from mesh_cli.up import keeping
from mesh_cli.up.keeping import keep_running
from tests.support.eventually import eventually


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(keeping, "LONGEST_BACKOFF", 0.002)
    monkeypatch.setattr(keeping, "POLL_SECONDS", 0.001)


class Server(EmbeddedServer):
    """Has no process; `failures` are the errors of its next starts."""

    name = "memory"
    url = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.directory.mkdir()
        self.alive = True
        self.starts = 0
        self.failures: Iterator[Exception] = iter(())

    @property
    def ended(self) -> bool:
        return not self.alive

    def how_it_ended(self) -> str:
        return "ended with status -9"

    async def start(self, seconds: float = 0) -> str:
        self.starts += 1
        if failure := next(self.failures, None):
            raise failure
        self.alive = True
        return self.url

    async def stop(self) -> None:
        pass

    async def _command(self) -> list[str]:
        return []

    async def _ready(self) -> bool:
        return True


@asynccontextmanager
async def kept(server: Server) -> AsyncIterator[list[str]]:
    """What is said while it is kept running."""
    said: list[str] = []
    task = asyncio.create_task(keep_running(server, said.append), name="keep")
    yield said
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_server_that_ended_is_started_again_and_both_are_said_and_logged(tmp_path: Path) -> None:
    server = Server(tmp_path)
    async with kept(server) as said:
        server.alive = False
        await eventually(lambda: len(said) == 2, what="its return")
    assert "memory ended with status -9; it is being started again" in said[0]
    assert "memory is back after" in said[1]
    assert server.log.read_text().count("mesh up: memory") == 2


@pytest.mark.parametrize("failure", [ServerFailed("memory", "has no memory"), OSError(28, "No space left")])
async def test_a_server_that_does_not_come_back_is_tried_on_and_told_of_now_and_then(
    tmp_path: Path, failure: Exception
) -> None:
    server = Server(tmp_path)
    server.failures = iter([failure] * 45)
    async with kept(server) as said:
        server.alive = False
        await eventually(lambda: server.alive, what="its return")
        await eventually(lambda: "is back" in said[-1], what="the word of it")
    assert server.starts == 46
    assert [line.split(", ")[1].split("; ")[0] for line in said[1:-1]] == [
        f"{count} starts failed" for count in (1, 2, 3, 20, 40)
    ]
    assert str(failure) in said[1]
