"""A service's process: signals and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.server import Server
from tests.support.probe_service import MESH, ProbeStub, make_server

ROOT = Path(__file__).parents[2]


class Service:
    """The probe's process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def hear(self, start: str) -> str:
        """The rest of the next line on stdout, which must begin with `start`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            line = (await self.process.stdout.readline()).decode().strip()
        assert line.startswith(start), line
        return line.removeprefix(start).strip()

    async def ended(self, within: float = 30.0) -> tuple[int, str]:
        """Exit code and stderr."""
        async with asyncio.timeout(within):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@pytest.fixture
async def services() -> AsyncIterator[list[Service]]:
    """Processes to kill at the end."""
    started: list[Service] = []
    yield started
    for service in started:
        if service.process.returncode is None:
            service.process.kill()
            await service.process.communicate()


async def launch(services: list[Service], open_files: int = 4096, **environment: str) -> Service:
    process = await asyncio.create_subprocess_exec(
        "prlimit",
        f"--nofile={open_files}",
        sys.executable,
        "-m",
        "tests.support.probe_process",
        cwd=ROOT,
        env=os.environ | environment,
        stdout=PIPE,
        stderr=PIPE,
    )
    services.append(Service(process))
    return services[-1]


async def test_the_first_signal_drains_and_the_call_in_flight_finishes(services: list[Service]) -> None:
    service = await launch(services)
    port = await service.hear("port")
    async with open_channel(f"127.0.0.1:{port}") as channel:
        call = ProbeStub(channel).Unary(StringValue(value="wait"), metadata=MESH)
        await service.hear("entered")
        service.process.send_signal(signal.SIGTERM)
        await service.hear("draining")
        assert (await call).value == "wait"
    await service.hear("stopped")
    code, _ = await service.ended()
    assert code == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_the_second_signal_stops_at_once(services: list[Service], second: signal.Signals) -> None:
    service = await launch(services, MESH_CLUSTER_NAME="stubborn", MESH_SERVER_DRAIN_SECONDS="600")
    port = await service.hear("port")
    async with open_channel(f"127.0.0.1:{port}") as channel:
        call = ProbeStub(channel).Unary(StringValue(value="wait"), metadata=MESH)
        await service.hear("entered")
        service.process.send_signal(signal.SIGTERM)
        await service.hear("draining")
        service.process.send_signal(second)
        code, _ = await service.ended(within=15)
        assert code == 128 + second
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_a_background_task_that_fails_drains_and_ends_the_process_with_its_reason(
    services: list[Service],
) -> None:
    service = await launch(services)
    port = await service.hear("port")
    async with open_channel(f"127.0.0.1:{port}") as channel:
        await ProbeStub(channel).Unary(StringValue(value="fail"), metadata=MESH)
    code, errors = await service.ended()
    assert code == 70
    assert "watch failed: RuntimeError('the watch broke')" in errors


@pytest.fixture
async def occupied() -> AsyncIterator[Server]:
    server = make_server()
    await server.start()
    yield server
    await server.stop()


async def test_a_taken_port_ends_the_start_with_one_clear_line(
    services: list[Service], occupied: Server
) -> None:
    service = await launch(services, MESH_SERVER_LISTEN=f"127.0.0.1:{occupied.port}")
    code, errors = await service.ended()
    assert code == 69
    assert errors.splitlines()[-1].startswith(
        f"MESH_SERVER_LISTEN='127.0.0.1:{occupied.port}' cannot be bound"
    )
    assert "Traceback" not in errors


async def test_a_bad_setting_exits_64_with_one_line_and_binds_nothing(services: list[Service]) -> None:
    service = await launch(services, MESH_SERVER_DRAIN_SECONDS="soon")
    code, errors = await service.ended()
    assert code == 64
    (line,) = errors.splitlines()
    assert line.startswith("MESH_SERVER_DRAIN_SECONDS='soon' is wrong")


async def test_what_others_could_read_exits_64_and_binds_nothing(services: list[Service]) -> None:
    service = await launch(services, MESH_SERVER_LISTEN="0.0.0.0:0")
    code, errors = await service.ended()
    assert code == 64
    (line,) = errors.splitlines()
    assert line.startswith("MESH_SERVER_LISTEN would serve in plain text")


async def test_too_few_open_files_exit_78_with_the_remedy(services: list[Service]) -> None:
    service = await launch(services, open_files=512)
    code, errors = await service.ended()
    assert code == 78
    (line,) = errors.splitlines()
    assert line.startswith("this process may open 512 files and needs 1024: raise the limit")
