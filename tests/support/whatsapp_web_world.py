"""Linked devices in the contract that every driver keeps: the real sidecar, on the network that stands in for
WhatsApp.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import grpc

from mesh_session_node.drivers.interface.outcomes import Failure
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from mesh_session_node.drivers.whatsapp_web.process import NAME
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_simulator.whatsapp_web import PROGRAM, ForwardingServicer, NetworkProgram, record_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents
from tests.support.network_acts import seen_in
from tests.support.recorded_rows import RecordedRows
from tests.support.simulator_world import SimulatorWorld
from tests.support.tools import missing_tool

READER = "+15559999999"
"""An account of the worlds' own, that files come to."""
SENDER = "phone:+4915112345670"


def is_built() -> bool:
    """Whether both programs are here."""
    folder = str(Path(sys.executable).parent)
    return all(shutil.which(name, path=folder) for name in (NAME, PROGRAM))


def passkey_answer(options: bytes) -> bytes:
    """What an authenticator answers that has the account's passkey."""
    said = {
        "type": "webauthn.get",
        "challenge": json.loads(options)["challenge"],
        "origin": "https://web.whatsapp.com",
    }
    client_data = urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    signed = {"clientDataJSON": client_data, "authenticatorData": "AAAA", "signature": "AAAA"}
    return json.dumps({"id": "a2V5", "rawId": "a2V5", "type": "public-key", "response": signed}).encode()


class Running:
    """The sidecar and its network."""

    def __init__(self, driver: WhatsappWebDriver, network: NetworkProgram, service: Any) -> None:
        self.driver = driver
        self.network = network
        self.service = service
        self.away = False
        """The network is not there any more."""


class WhatsappWebWorld(SimulatorWorld):
    """Implements `DriverWorld`."""

    numbers: ClassVar[Mapping[Failure, int]] = {
        Failure.BLOCKED: 403,
        Failure.CONTENT: 479,
        Failure.RATE_LIMITED: 429,
        Failure.RESTRICTED: 463,
    }

    def __init__(self, running: Running, phone: str) -> None:
        super().__init__(phone, running.service)
        self.driver = running.driver
        self._running = running

    async def paired(self) -> Paired:
        pairing = self.driver.pair(account_id="acc_1", by_code=False, phone="", seconds=60.0)
        try:
            async for step in pairing:
                if isinstance(step, Paired):
                    await pairing.stored()
                    return step
                assert isinstance(step, PairingCode)
                await self.accept(step)
        finally:
            await pairing.aclose()
        raise AssertionError("it was not paired")

    async def accept_with_passkey(self, code: PairingCode) -> None:
        await self.ask("SetNetwork", api.SetNetworkRequest(passkey_phones=[self.phone]))
        await self.accept(code)

    def passkey_answer(self, options: bytes) -> bytes:
        return passkey_answer(options)

    async def let_it_be_late(self) -> None:
        """The driver judges that by when the message was sent."""

    async def seen(self) -> list[str]:
        found = await self.ask("GetNetworkAccount", api.GetNetworkAccountRequest(phone=self.phone))
        exported = self._service.ExportLedger(api.ExportLedgerRequest(), None)
        records = [record_of(record) async for response in exported for record in response.records]
        return seen_in(record for record in records if record.account == found.account.user_id)

    async def go_away(self) -> None:
        self._running.away = True
        await self._running.network.stop()

    async def file(self, data: bytes) -> bytes:
        put = await self.ask("PutNetworkBlob", api.PutNetworkBlobRequest(data=data))
        return await self._sent(wire.Blob(ref=put.ref, sha256=put.sha256, size=len(data)))

    async def without_file(self) -> bytes:
        return await self._sent(wire.Blob(ref=sha256(b"nothing").hexdigest(), size=7))

    async def _sent(self, blob: wire.Blob) -> bytes:
        """What fetches a file that somebody has sent."""
        blob.shown_as, blob.mime = "document", "application/octet-stream"
        content = wire.Content(blob=blob)
        events, rows = RecordedEvents(), RecordedRows()
        paired = await WhatsappWebWorld(self._running, READER).paired()
        rows.apply(paired.rows)
        link = await self.driver.connect(paired.state, rows, events)
        injected = api.InjectMessageRequest(phone=READER, sender=SENDER, encoded=content.SerializeToString())
        await self.ask("InjectMessage", injected)
        (came,) = await eventually(lambda: events.incoming)
        link.abort()
        await link.closed()
        assert came.blob is not None
        return came.blob


@asynccontextmanager
async def linked_devices() -> AsyncIterator[Callable[[], AbstractAsyncContextManager[WhatsappWebWorld]]]:
    """One sidecar and one network for all worlds; started anew once a case has had the network go away."""
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    phones = (f"+1555{number:07}" for number in count(1))
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(_running())

        @asynccontextmanager
        async def world() -> AsyncIterator[WhatsappWebWorld]:
            nonlocal running
            if running.away:
                running = await stack.enter_async_context(_running())
            yield WhatsappWebWorld(running, next(phones))

        yield world


@asynccontextmanager
async def fake_network() -> AsyncIterator[tuple[NetworkProgram, Any]]:
    """The network, and its SimulatorService; receipts come at once."""
    network = await NetworkProgram.start("", "127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(network.ready.grpc) as channel:
            service: Any = ForwardingServicer(simulator_pb2_grpc.SimulatorServiceStub(channel))
            at_once = api.SetBehaviourRequest()
            at_once.behaviour.delivered_after.FromTimedelta(timedelta(0))
            await service.SetBehaviour(at_once, None)
            yield network, service
    finally:
        await network.stop()


@asynccontextmanager
async def _running() -> AsyncIterator[Running]:
    async with fake_network() as (network, service):
        settings = WhatsappWebSettings(
            test_network=network.ready.network, test_root=network.ready.root_key, hang_seconds=60.0
        )
        driver = WhatsappWebDriver(settings)
        sidecar = asyncio.create_task(driver.sidecar.run(), name="sidecar")
        try:
            yield Running(driver, network, service)
        finally:
            sidecar.cancel()
            await asyncio.wait([sidecar])
