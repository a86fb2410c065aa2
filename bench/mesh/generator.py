"""The load generator's handle in the benchmark's own process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

import msgspec

from bench.measuring.processes import ROOT
from bench.mesh.load import Plan, Round


class LoadGenerator:
    """Asks for one round after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def round(self, seconds: float) -> Round:
        """Raises `RuntimeError` when the generator ended or a call failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%f\n" % seconds)
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the load generator ended")
        done = msgspec.json.decode(answer, type=Round)
        if done.errors:
            raise RuntimeError(f"calls failed: {done.errors}")
        return done


@contextlib.asynccontextmanager
async def load_generator(plan: Plan) -> AsyncIterator[LoadGenerator]:
    """A process that is ready to send."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.mesh.load",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(plan) + b"\n")
    try:
        yield LoadGenerator(process)
    finally:
        process.stdin.close()
        await process.wait()
