"""How fast this machine is now: what an empty unary gRPC call costs its server, from bytes to bytes.

A virtual machine's speed drifts by half within minutes. Figures of two runs compare only by their ratios to
this.
`python -m bench.measuring.yardstick` is the server.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import grpc.aio
import uvloop

import mesh_core  # noqa: F401 - chooses gRPC's poller, as every part of the mesh does
from bench.measuring.processes import ROOT, cpu_seconds

_METHOD = "/bench.Yardstick/Call"
_CALLERS, _WARM_UP_CALLS = 32, 500


async def empty_call_us(seconds: float = 2.0) -> float:
    """CPU microseconds of the server per call, 32 callers in a closed loop."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.measuring.yardstick",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
        for _ in range(_WARM_UP_CALLS):
            await call(b"")
        used, stop = cpu_seconds(process.pid), time.monotonic() + seconds

        async def caller() -> int:
            calls = 0
            while time.monotonic() < stop:
                await call(b"")
                calls += 1
            return calls

        done = sum(await asyncio.gather(*(caller() for _ in range(_CALLERS))))
        used = cpu_seconds(process.pid) - used
    process.terminate()
    await process.wait()
    return used / done * 1e6


async def _serve() -> None:
    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service, _, method = _METHOD[1:].partition("/")
    handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve())
