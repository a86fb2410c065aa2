"""A mesh of the demo's own, for when none runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from mesh_cli.embedded import ServerFailed
from mesh_cli.up.state import MeshFile, running_mesh

START_SECONDS = 120.0
POLL_SECONDS = 0.05
WHATSAPP_WEB = "whatsapp_web"


@contextlib.asynccontextmanager
async def own_mesh(driver: str) -> AsyncIterator[MeshFile]:
    """`mesh up` as a child on a temporary state directory that goes away with it, on a network of ours."""
    with tempfile.TemporaryDirectory(prefix="mesh-demo-", ignore_cleanup_errors=True) as folder:
        state = Path(folder)
        log = state / "up.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mesh_cli",
                "up",
                "--state",
                folder,
                "--port",
                "0",
                *(("--driver", driver, "--fake-network") if driver == WHATSAPP_WEB else ()),
                stdout=output,
                stderr=output,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            yield await _until_running(process, state, log)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def _until_running(process: asyncio.subprocess.Process, state: Path, log: Path) -> MeshFile:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            if mesh := running_mesh(state):
                return mesh
            await asyncio.sleep(POLL_SECONDS)
    raise ServerFailed("mesh", f"ended with status {process.returncode}", log)
