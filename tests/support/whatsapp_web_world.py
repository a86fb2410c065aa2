"""Linked devices in the contract that every driver keeps: the real sidecar, on the network that stands in for
WhatsApp.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from mesh_session_node.drivers.interface.outcomes import End
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from mesh_session_node.drivers.whatsapp_web.process import NAME
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_simulator.whatsapp_web import PROGRAM, ForwardingServicer, NetworkProgram, record_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from tests.support.driver_capabilities import EVERYTHING, Can
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents
from tests.support.network_acts import seen_in
from tests.support.recorded_rows import RecordedRows
from tests.support.tools import missing_tool

READER = "+15550000099"
"""An account of the world's own, that files come to."""
SENDER = "phone:+4915112345670"


def is_built() -> bool:
    """Whether both programs are here."""
    folder = str(Path(sys.executable).parent)
    return all(shutil.which(name, path=folder) for name in (NAME, PROGRAM))


class WhatsappWebWorld:
    """Implements `DriverWorld`."""

    kind: ClassVar[type[WhatsappWebDriver]] = WhatsappWebDriver
    can: ClassVar[frozenset[Can]] = EVERYTHING - {Can.RATCHET, Can.PASSKEYS, Can.REFUSALS}

    def __init__(self, driver: WhatsappWebDriver, network: NetworkProgram, service: Any) -> None:
        self.driver = driver
        self._network = network
        self._service = service
        self._unregistered: list[str] = []

    async def paired(self, phone: str) -> Paired:
        pairing = self.driver.pair(account_id="acc_1", by_code=False, phone="", device_name="Mesh")
        try:
            async for step in pairing:
                if isinstance(step, Paired):
                    await pairing.stored()
                    return step
                assert isinstance(step, PairingCode)
                await self.accept(step, phone)
        finally:
            await pairing.aclose()
        raise AssertionError("it was not paired")

    async def ask_passkey(self) -> None:
        """It is asked of accounts, and the contract's attempt has none yet."""

    async def accept(self, code: PairingCode, phone: str) -> None:
        request = api.AcceptPairingRequest(phone=phone)
        if code.qr:
            request.qr = code.qr
        else:
            request.code = code.letters
        await self._ask("AcceptPairing", request)

    async def refuse_pairing(self) -> None:
        """The network refuses a bad number by itself."""

    async def time_out_pairing(self) -> None:
        pytest.skip("codes are shown for as long as WhatsApp lets them be: 160 seconds")

    async def answer(self) -> None:
        """The network answers by itself."""

    async def group_of(self, phone: str, member: str) -> str:
        members = [phone, member.removeprefix("phone:")]
        made = await self._ask("CreateNetworkGroup", api.CreateNetworkGroupRequest(members=members))
        address: str = made.group.address
        return address

    async def group_run_by(self, phone: str, member: str) -> str:
        members = [member.removeprefix("phone:"), phone]
        made = await self._ask("CreateNetworkGroup", api.CreateNetworkGroupRequest(members=members))
        address: str = made.group.address
        return address

    async def let_it_be_late(self, phone: str) -> None:
        """The driver judges that by when the message was sent."""

    async def seen(self, phone: str) -> list[str]:
        exported = self._service.ExportLedger(api.ExportLedgerRequest(), None)
        return seen_in([record_of(record) async for response in exported for record in response.records])

    async def write_to(self, phone: str, sender: str, text: str) -> None:
        await self._ask("InjectMessage", api.InjectMessageRequest(phone=phone, sender=sender, text=text))

    async def write_from_phone(self, phone: str, to: str, text: str) -> None:
        request = api.InjectMessageRequest(phone=phone, from_own_device=True, chat=to, text=text)
        await self._ask("InjectMessage", request)

    async def answer_to(self, phone: str, sender: str, quoted: str) -> None:
        request = api.InjectMessageRequest(phone=phone, sender=sender, text="yes")
        request.quoted.network_message_id = "M1"
        request.quoted.text = quoted
        await self._ask("InjectMessage", request)

    async def refuse(self, phone: str, code: int) -> None:
        request = api.SetBehaviourRequest(phone=phone)
        request.behaviour.refusals.add(reason=wire.REJECT_REASON_BLOCKED, code=code)
        await self._ask("SetBehaviour", request)

    async def unacknowledged(self, phone: str) -> int:
        found = await self._ask("GetNetworkAccount", api.GetNetworkAccountRequest(phone=phone))
        return int(found.account.pending_inbound)

    async def end(self, phone: str, end: End) -> None:
        await self._fault(phone, _ENDS[end])

    async def refuse_logins(self, phone: str, end: End) -> None:
        if end is End.REFUSED:
            pytest.skip("the library takes a network that is not available for a lost connection")
        await self._fault(phone, _ENDS[end])

    async def go_away(self) -> None:
        await self._network.stop()

    async def file(self, data: bytes) -> bytes:
        put = await self._ask("PutNetworkBlob", api.PutNetworkBlobRequest(data=data))
        content = wire.Content()
        content.blob.ref, content.blob.sha256, content.blob.size = put.ref, put.sha256, len(data)
        content.blob.shown_as, content.blob.mime = "document", "application/octet-stream"
        events, rows = RecordedEvents(), RecordedRows()
        paired = await self.paired(READER)
        rows.apply(paired.rows)
        link = await self.driver.connect(paired.state, rows, events)
        injected = api.InjectMessageRequest(phone=READER, sender=SENDER, encoded=content.SerializeToString())
        await self._ask("InjectMessage", injected)
        (came,) = await eventually(lambda: events.incoming)
        link.abort()
        await link.closed()
        assert came.blob is not None
        return came.blob

    async def without_file(self) -> bytes:
        return re.sub(rb"/mms/document/.{10}", b"/mms/document/" + b"A" * 10, await self.file(b"data"))

    async def register(self, phone: str, *, on_network: bool) -> None:
        if not on_network:
            self._unregistered.append(phone)
            await self._ask("SetNetwork", api.SetNetworkRequest(unregistered_phones=self._unregistered))

    async def _fault(self, phone: str, kind: api.FaultKind.ValueType) -> None:
        await self._ask("InjectFault", api.InjectFaultRequest(kind=kind, phone=phone))

    async def _ask(self, method: str, request: Any) -> Any:
        return await getattr(self._service, method)(request, None)


_ENDS = {
    End.LOST: api.FAULT_KIND_DROP_CONNECTION,
    End.LOGGED_OUT: api.FAULT_KIND_LOG_OUT,
    End.BANNED: api.FAULT_KIND_BAN,
}


@asynccontextmanager
async def whatsapp_web_world() -> AsyncIterator[WhatsappWebWorld]:
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    network = await NetworkProgram.start("", "127.0.0.1:0")
    settings = WhatsappWebSettings(
        test_network=network.ready.network, test_root=network.ready.root_key, hang_seconds=60.0
    )
    driver = WhatsappWebDriver(settings)
    running = asyncio.create_task(driver.sidecar.run(), name="sidecar")
    async with grpc.aio.insecure_channel(network.ready.grpc) as channel:
        service = ForwardingServicer(simulator_pb2_grpc.SimulatorServiceStub(channel))
        try:
            yield WhatsappWebWorld(driver, network, service)
        finally:
            running.cancel()
            await asyncio.wait([running])
            await network.stop()
