"""A whole service around `ProbeService`, which the tests run as a process."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core.process.service import Stop, run
from mesh_core.settings import ClusterSettings, ServerSettings, TelemetrySettings
from mesh_core.tasks import Supervisor
from tests.support.probe_service import ProbeServicer, add_probe_to_server, make_server


class ProbeSettings(msgspec.Struct, frozen=True, kw_only=True):
    server: ServerSettings
    cluster: ClusterSettings
    telemetry: TelemetrySettings


class Commanded(ProbeServicer):
    """Does what the request says, and reports on stdout that it began."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.fail = asyncio.Event()

    async def Unary(self, request: StringValue, _context: Any) -> StringValue:
        say("entered")
        if request.value == "fail":
            self.fail.set()
        elif request.value == "wait":
            await self.release.wait()
        return request


async def main(settings: ProbeSettings, stop: Stop) -> None:
    servicer = Commanded()
    server = make_server(settings.server)
    server.add(add_probe_to_server, servicer)

    async def watch() -> None:
        await servicer.fail.wait()
        raise RuntimeError("the watch broke")

    async def release_when_draining() -> None:
        await server.draining.wait()
        if settings.cluster.name != "stubborn":
            servicer.release.set()

    async with Supervisor(stop.fail) as supervisor:
        supervisor.start("watch", watch())
        supervisor.start("release", release_when_draining())
        say(f"port {await server.start()}")
        await stop.wait()
        say("draining")
        await server.drain()
        await server.stop()
    say("stopped")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run("sessionmesh-probe", ProbeSettings, main)
