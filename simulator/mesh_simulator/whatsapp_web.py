"""`python -m mesh_simulator.whatsapp_web`: a network of WhatsApp Web's protocol for the simulated one.

The network is a program in Go, `whatsapp-web-network`, a child of this process. This process is what stands
before every SimulatorService: it asks who calls, is found by routers, and judges the ledger.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import msgspec

from mesh_core.errors import StartupError
from mesh_core.process.service import Stop, run
from mesh_core.tasks import Supervisor
from mesh_parent import launcher
from mesh_simulator import views
from mesh_simulator.checker import check
from mesh_simulator.ledger.records import Kind, Record
from mesh_simulator.serving import serve
from mesh_simulator.settings import Settings, SimulatorSettings
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]

PROGRAM = "whatsapp-web-network"
_READY_SECONDS = 30.0
_STOP_SECONDS = 5.0
_MAX_LEDGER_MESSAGE = 64 * 1024 * 1024


class Ready(msgspec.Struct, frozen=True):
    """The line that the program prints once it serves; the key is in hexadecimal."""

    network: str
    grpc: str
    root_key: str


class NetworkProgram:
    """The running program: it ends with this process."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready) -> None:
        self._process = process
        self.ready = ready

    @classmethod
    async def start(cls, program: str, listen: str, root: str = "") -> Self:
        """Start `program`, or the one beside Python's own, and wait until it serves.

        `root` is the file of the key that its certificates are signed with. Raises `StartupError`.
        """
        places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        found = shutil.which(program or PROGRAM, path=places)
        if found is None:
            raise StartupError(f"{program or PROGRAM} is not here: `make whatsapp-web` builds it where Go is")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", launcher.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "-", found),
            *("--listen", listen, "--control", "127.0.0.1:0", "--root", root),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        line = b""
        if process.stdout is not None:
            try:
                async with asyncio.timeout(_READY_SECONDS):
                    line = await process.stdout.readline()
            except TimeoutError:
                process.kill()
        try:
            return cls(process, msgspec.json.decode(line, type=Ready))
        except msgspec.MsgspecError:
            status = await process.wait()
            raise StartupError(f"{found} did not start: status {status}") from None

    async def end(self) -> None:
        """Wait until it has ended by itself, which it should not."""
        status = await self._process.wait()
        raise StartupError(f"the network has ended with status {status}")

    async def stop(self) -> None:
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class ForwardingServicer(simulator_pb2_grpc.SimulatorServiceServicer):
    """Passes every call on to the program, but for the verdict, which is given here."""

    def __init__(self, network: Any) -> None:
        self._network = network
        for method in api.DESCRIPTOR.services_by_name["SimulatorService"].methods:
            if method.name not in ("ExportLedger", "GetVerdict"):
                setattr(self, method.name, self._forwarded(method.name))

    async def ExportLedger(
        self, request: api.ExportLedgerRequest, context: Context
    ) -> AsyncIterator[api.ExportLedgerResponse]:
        async for response in self._network.ExportLedger(request):
            yield response

    async def GetVerdict(self, request: api.GetVerdictRequest, context: Context) -> api.GetVerdictResponse:
        calls = [views.call_of(f"calls[{at}]", call) for at, call in enumerate(request.calls)]
        records = [
            record_of(record)
            async for response in self._network.ExportLedger(api.ExportLedgerRequest())
            for record in response.records
        ]
        return views.verdict_view(await asyncio.to_thread(check, records, calls))

    def _forwarded(self, name: str) -> Any:
        call = getattr(self._network, name)

        async def forward(request: Any, context: Context | None = None) -> Any:
            return await call(request)

        return forward


def record_of(message: api.LedgerRecord) -> Record:
    """A record of the API as the checker takes it."""
    return Record(
        Kind(message.kind),
        message.time.ToMicroseconds(),
        message.connection,
        message.account,
        message.counter,
        message.code,
        message.digest,
        message.id,
        message.peer,
    )


async def main(settings: Settings, stop: Stop) -> None:
    """Settings, the program, serve, wait for a signal, drain, stop."""
    program = await NetworkProgram.start(
        settings.simulator.whatsapp_web_network, settings.simulator.listen, _root_file(settings.simulator)
    )
    options = (("grpc.max_receive_message_length", _MAX_LEDGER_MESSAGE), ("grpc.enable_http_proxy", 0))
    try:
        async with (
            grpc.aio.insecure_channel(program.ready.grpc, options=options) as channel,
            Supervisor(stop.fail) as supervisor,
        ):
            stub: Any = simulator_pb2_grpc.SimulatorServiceStub(channel)
            await stub.SetBehaviour(_behaviour(settings.simulator))
            supervisor.start("the network's program", program.end())
            await serve(settings, stop, supervisor, ForwardingServicer(stub), program.ready.network)
    finally:
        await program.stop()


def _root_file(settings: SimulatorSettings) -> str:
    """Kept, so that nodes trust the next process too."""
    if not settings.state:
        return ""
    folder = Path(settings.state)
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / "root.key")


def _behaviour(settings: SimulatorSettings) -> api.SetBehaviourRequest:
    request = api.SetBehaviourRequest()
    request.behaviour.delivered_after.FromTimedelta(timedelta(seconds=settings.delivered_after_seconds))
    if settings.read_after_seconds is not None:
        request.behaviour.read_after.FromTimedelta(timedelta(seconds=settings.read_after_seconds))
    return request


if __name__ == "__main__":
    run("sessionmesh-simulator", Settings, main)
