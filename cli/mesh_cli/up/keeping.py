"""Keeps the embedded servers of a mesh running, as each part is kept, and says what it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from mesh_cli.embedded import EmbeddedServer
from mesh_core.backoff import Backoff
from mesh_core.errors import MeshError

FIRST_BACKOFF, LONGEST_BACKOFF = 0.2, 10.0
STEADY_SECONDS = 30.0
POLL_SECONDS = 0.1
RECOVERY_SECONDS = 300.0
"""How long a server that was killed may take to answer: it first goes through its log."""
TOLD_EVERY = 20
"""Failed attempts between two of which we tell, after the first few."""

Say = Callable[[str], None]


def local_time() -> str:
    """What lines on the terminal begin with."""
    return datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")


async def keep_running(server: EmbeddedServer, say: Say) -> None:
    """Start the server again, at its address and on its data, whenever it ends by itself; until cancelled.

    It never gives up: what keeps a server down (a full disk, no memory) goes away while nobody watches, and
    the parts wait for it. Each end, the first failures and then every TOLD_EVERYth, and the return are said,
    and noted in the server's log.
    """
    backoff = Backoff(FIRST_BACKOFF, LONGEST_BACKOFF)
    while True:
        began = time.monotonic()
        while not server.ended:  # noqa: ASYNC110 - a child's end is seen by asking
            await asyncio.sleep(POLL_SECONDS)
        if time.monotonic() - began > STEADY_SECONDS:
            backoff.reset()
        _tell(server, say, f"{server.how_it_ended()}; it is being started again")
        await _bring_back(server, say, backoff)


async def _bring_back(server: EmbeddedServer, say: Say, backoff: Backoff) -> None:
    began = time.monotonic()
    await server.stop()
    failed = 0
    while True:
        await asyncio.sleep(backoff.next())
        try:
            await server.start(RECOVERY_SECONDS)
        except (MeshError, OSError) as error:
            failed += 1
            if failed <= 3 or failed % TOLD_EVERY == 0:
                passed = time.monotonic() - began
                reason = str(error).partition("; the end of ")[0]
                told = f"is down for {passed:.0f} s, {failed} starts failed; trying on: {reason}"
                _tell(server, say, f"{told}; see {server.log}")
        else:
            _tell(server, say, f"is back after {time.monotonic() - began:.1f} s")
            return


def _tell(server: EmbeddedServer, say: Say, what: str) -> None:
    now = local_time()
    say(f"{now} {server.name} {what}")
    server.note(f"{now} mesh up: {server.name} {what}")
