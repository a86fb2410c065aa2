"""The driver of the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec
from asyncpg.pgproto.pgproto import UUID

from mesh_core.settings import InvalidSetting
from mesh_core.validation import stored_text
from mesh_session_node.drivers.interface import content
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import MediaPart, References, refers
from mesh_session_node.drivers.interface.device import PLAIN_DEVICE, NewDevice, Proxy
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.media_limits import LINKED_DEVICE
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, PairingRefused
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode, PairingStep, PlainPairing
from mesh_session_node.drivers.interface.state import DriverState, StateRows
from mesh_session_node.drivers.simulated.encoding import SENDABLE, to_wire
from mesh_session_node.drivers.simulated.link import SimulatedLink
from mesh_session_node.drivers.simulated.proxying import connect_through
from mesh_session_node.drivers.simulated.state import SimulatedState, StoredState, load_state
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import message_pb2, session_pb2

MAX_SELF = 255
"""Characters of what the network says an account is called."""
_CONNECT_WITHIN = 10.0
_DEVICE_NAME = "Sessionmesh"


class SimnetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the simulated network is, as host:port."""

    address: str = "127.0.0.1:7650"

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise InvalidSetting("address", "must be host:port")


class SimulatedDriver:
    """Speaks to the network at `address` (host:port)."""

    name = "simulated"
    pairing_methods = (session_pb2.PAIR_METHOD_QR, session_pb2.PAIR_METHOD_CODE)
    content_kinds = SENDABLE
    capabilities = frozenset(Capability)
    media_limits = LINKED_DEVICE
    program = None

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    def network_id(self, message: UUID) -> str:
        return content.network_id_of(message)

    def message_of(self, network_id: str) -> UUID | None:
        return content.message_of(network_id)

    def prepares(self, request: message_pb2.SendMessageRequest) -> bool:
        return refers(request)

    def encode(
        self, request: message_pb2.SendMessageRequest, references: References, media: MediaPart | None
    ) -> tuple[bytes, Sequence[str]]:
        return to_wire(request, references, media)

    def load(self, state: bytes) -> SimulatedState:
        return load_state(state)

    def dump(self, state: DriverState) -> bytes:
        if not isinstance(state, SimulatedState):
            raise TypeError("not a state of this driver")
        return state.dump(state.next)

    async def connect(
        self, state: DriverState, _rows: StateRows, events: LinkEvents, proxy: Proxy | None = None
    ) -> SimulatedLink:
        if not isinstance(state, SimulatedState):
            raise TypeError("not a state of this driver")
        link = await self._open(SimulatedLink(state, events), proxy)
        if not events.permitted():
            link.abort()
            raise ConnectionEnded(End.LOST, "the account has moved to another node")
        await link.log_in(_CONNECT_WITHIN)
        return link

    def pair(
        self,
        *,
        account_id: str,
        by_code: bool,
        phone: str,
        seconds: float,
        device: NewDevice = PLAIN_DEVICE,
    ) -> PlainPairing:
        return PlainPairing(self._pair(device, by_code=by_code, phone=phone))

    async def _pair(
        self, device: NewDevice, *, by_code: bool, phone: str
    ) -> AsyncGenerator[PairingStep, None]:
        link = SimulatedLink(None, None)
        frames = link.pairing = asyncio.Queue()
        await self._open(link, device.proxy)
        method = wire.PAIR_METHOD_CODE if by_code else wire.PAIR_METHOD_QR
        name = device.name or _DEVICE_NAME
        start = wire.PairStart(method=method, phone=phone, device_name=name, with_history=device.with_history)
        link.write(wire.Frame(pair_start=start))
        try:
            while True:
                frame = await frames.get()
                if frame is None:
                    raise ConnectionEnded(End.LOST, "the network closed the connection")
                kind = frame.WhichOneof("kind")
                if kind == "pair_code":
                    code = frame.pair_code
                    yield PairingCode(code.qr, code.code, code.expire_time_us)
                elif kind == "paired":
                    yield Paired(_state_of(frame.paired))
                    return
                elif kind == "pair_refused":
                    raise PairingRefused(frame.pair_refused.message)
                else:
                    return
        finally:
            link.abort()

    async def _open(self, link: SimulatedLink, proxy: Proxy | None) -> SimulatedLink:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                if proxy is None:
                    await loop.create_connection(lambda: link, self._host, self._port)
                else:
                    await connect_through(proxy, self._host, self._port, link)
        except (OSError, TimeoutError) as error:
            raise ConnectionEnded(End.LOST, f"the network cannot be reached: {error}") from None
        return link


def _state_of(paired: wire.Paired) -> SimulatedState:
    return SimulatedState(
        StoredState(
            stored_text(paired.user_id, MAX_SELF),
            paired.secret,
            stored_text(paired.phone, MAX_SELF),
            stored_text(paired.push_name, MAX_SELF),
            stored_text(paired.hidden_id, MAX_SELF),
            paired.counter,
        )
    )
