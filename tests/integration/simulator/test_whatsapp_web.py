"""SimulatorService before the network of WhatsApp Web's protocol: calls reach it, its ledger is judged here.

What the network itself does is tested beside it, in Go, with a real client.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh_core.errors import StartupError
from mesh_simulator.whatsapp_web import PROGRAM, ForwardingServicer, NetworkProgram, record_of
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from tests.support.tools import missing_tool

ALICE = "+4915112345678"


@pytest.fixture
def program_here() -> None:
    if shutil.which(PROGRAM, path=str(Path(sys.executable).parent)) is None:
        missing_tool(f"{PROGRAM} is not built: `make whatsapp-web` does it where Go is")


@pytest.fixture
async def service(program_here: None) -> AsyncIterator[Any]:
    program = await NetworkProgram.start("", "127.0.0.1:0")
    async with grpc.aio.insecure_channel(program.ready.grpc) as channel:
        yield ForwardingServicer(simulator_pb2_grpc.SimulatorServiceStub(channel))
    await program.stop()


async def test_calls_reach_the_network(service: Any) -> None:
    made = await service.CreateNetworkAccount(api.CreateNetworkAccountRequest(phone=ALICE), None)
    assert (made.account.user_id, made.account.paired) == (ALICE.removeprefix("+"), False)
    stats = await service.GetNetworkStats(api.GetNetworkStatsRequest(), None)
    assert (stats.accounts, len(stats.root_key)) == (1, 32)


async def test_its_refusals_are_the_callers(service: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.IssueCredential(api.IssueCredentialRequest(phone=ALICE), None)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_its_ledger_is_judged(service: Any) -> None:
    await service.CreateNetworkAccount(api.CreateNetworkAccountRequest(phone=ALICE), None)
    records = [
        record_of(record)
        async for response in service.ExportLedger(api.ExportLedgerRequest(), None)
        for record in response.records
    ]
    assert [record.peer for record in records] == [ALICE]
    calls = [api.CallerRecord(request_id="r1", network_message_id="3EB0")]
    calls[0].acknowledge_time.GetCurrentTime()
    verdict = await service.GetVerdict(api.GetVerdictRequest(calls=calls), None)
    assert (verdict.lost, verdict.clean) == (1, False)


@pytest.mark.usefixtures("program_here")
async def test_the_key_that_clients_trust_outlives_the_process(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        program = await NetworkProgram.start("", "127.0.0.1:0", str(tmp_path / "root.key"))
        keys.append(program.ready.root_key)
        await program.stop()
    assert keys[0] == keys[1]


@pytest.mark.usefixtures("program_here")
async def test_a_network_that_cannot_listen_does_not_start() -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken:
        with pytest.raises(StartupError):
            await NetworkProgram.start("", f"127.0.0.1:{port}")


async def test_without_the_program_it_is_said_how_to_get_it() -> None:
    with pytest.raises(StartupError, match="make whatsapp-web"):
        await NetworkProgram.start("no-such-program", "127.0.0.1:0")
