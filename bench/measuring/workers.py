"""Worker processes of a benchmark, each started with a plan; then orders and answers, each a line of JSON.

A worker is a module that ends with `uvloop.run(serve(Plan, Order, make))`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import UnionType
from typing import Any, TypeVar

import msgspec

from bench.measuring.processes import ROOT

_MAX_LINE_BYTES = 1 << 27

Plan = TypeVar("Plan", bound=msgspec.Struct)
Order = TypeVar("Order")
Answer = TypeVar("Answer")


class Worker:
    """The process, as the benchmark sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, order: object, answer: type[Answer]) -> Answer:
        """Its answer; raises `RuntimeError` when it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker process of the benchmark ended; its own output is above")
        return msgspec.json.decode(line, type=answer)


@contextlib.asynccontextmanager
async def worker(
    module: str, plan: msgspec.Struct, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Worker]:
    """Run `python -m module` with its plan until the block ends.

    It chooses gRPC's poller itself: this process' choice is not passed on.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(plan) + b"\n")
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def serve(
    plan: type[Plan],
    order: type[Order] | UnionType,
    make: Callable[[Plan], Callable[[Order], Awaitable[object]]],
) -> None:
    """The worker's side: `make` is given the plan, and what it makes is given each order; `order` may be a
    union of tagged kinds."""
    lines = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    obey = make(msgspec.json.decode(await lines.readline(), type=plan))
    while line := await lines.readline():
        given: Any = msgspec.json.decode(line, type=order)
        answer = await obey(given)
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()
