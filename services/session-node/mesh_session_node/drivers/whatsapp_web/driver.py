"""The driver of WhatsApp as a linked device."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import FailedPrecondition
from mesh_session_node.drivers.interface import content
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import MediaPart, References, refers
from mesh_session_node.drivers.interface.device import PLAIN_DEVICE, NewDevice, Proxy
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.media_limits import LINKED_DEVICE
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.interface.state import DriverState, StateRows, StateUnavailable
from mesh_session_node.drivers.whatsapp_web.encoding import SENDABLE, to_device_message
from mesh_session_node.drivers.whatsapp_web.link import WebLink
from mesh_session_node.drivers.whatsapp_web.pairing import WebPairing
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_session_node.drivers.whatsapp_web.sidecar import Sidecar
from mesh_session_node.drivers.whatsapp_web.state import WebState, load_state
from mesh_session_node.drivers.whatsapp_web.stream import MAX_ANSWER_BYTES
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1 import message_pb2, server_pb2, session_pb2

LOGIN_ROWS = "login/"
"""How the names of rows begin that every login needs."""


class WhatsappWebDriver:
    """Speaks to WhatsApp through the sidecar, which its user keeps running: `sidecar.run`."""

    name = "whatsapp_web"
    pairing_methods = (session_pb2.PAIR_METHOD_QR, session_pb2.PAIR_METHOD_CODE)
    content_kinds = SENDABLE
    capabilities = frozenset(Capability) - {
        Capability.END_LIVE_LOCATION,
        Capability.GROUP_HISTORY,
        Capability.STATUS_TO_CONTACTS,
    }
    media_limits = LINKED_DEVICE

    def __init__(self, settings: WhatsappWebSettings) -> None:
        self.sidecar = Sidecar(settings)
        self._login_seconds = settings.login_seconds
        self._history_seconds = settings.history_seconds

    @property
    def program(self) -> server_pb2.DriverProgram:
        runs = self.sidecar.version or pb.SidecarStarted()
        return server_pb2.DriverProgram(
            version=runs.version,
            library_version=runs.library_version,
            client_version=runs.client_version,
            problem=self.sidecar.problem,
        )

    def network_id(self, message: UUID) -> str:
        return content.network_id_of(message)

    def message_of(self, network_id: str) -> UUID | None:
        return content.message_of(network_id)

    def prepares(self, request: message_pb2.SendMessageRequest) -> bool:
        return refers(request)

    def encode(
        self, request: message_pb2.SendMessageRequest, references: References, media: MediaPart | None
    ) -> tuple[bytes, Sequence[str]]:
        kind = request.content.WhichOneof("kind")
        if kind not in SENDABLE:
            raise FailedPrecondition(f"the network has no messages of kind {kind}", "UNSUPPORTED_BY_NETWORK")
        return to_device_message(request, references, media), () if media is None else (media.blob.ref,)

    def load(self, state: bytes) -> WebState:
        return load_state(state)

    def dump(self, state: DriverState) -> bytes:
        if not isinstance(state, WebState):
            raise TypeError("not a state of this driver")
        return state.dump()

    async def connect(
        self, state: DriverState, rows: StateRows, events: LinkEvents, proxy: Proxy | None = None
    ) -> WebLink:
        own = f"phone:{state.phone}" if state.phone else f"user:{state.user_id}"
        try:
            async with asyncio.timeout(self._login_seconds):
                try:
                    return await self._connect(own, rows, events, proxy)
                except ConnectionEnded as error:
                    if error.end is not End.CARRIER_GONE:
                        raise
                # On the sidecar that takes the other's place
                return await self._connect(own, rows, events, proxy)
        except TimeoutError:
            raise ConnectionEnded(End.LOST, "the network did not answer the login in time") from None

    async def _connect(self, own: str, rows: StateRows, events: LinkEvents, proxy: Proxy | None) -> WebLink:
        try:
            needed = await rows.read(prefixes=[LOGIN_ROWS])
        except StateUnavailable as error:
            raise ConnectionEnded(
                End.LOST, f"what is stored of the account cannot be read: {error}"
            ) from None
        if sum(map(len, needed.values())) > MAX_ANSWER_BYTES:
            raise ConnectionEnded(End.STATE_UNUSABLE, "too much is stored for its logins")
        stream = await self.sidecar.stream()
        if not events.permitted():
            raise ConnectionEnded(End.LOST, "the account has moved to another node")
        link = WebLink(stream, own, rows, events, self._history_seconds)
        opening = pb.OpenDevice(
            account_id=rows.account_id,
            rows=[pb.StateRow(key=key, value=value) for key, value in needed.items()],
        )
        if proxy is not None:
            opening.proxy, opening.proxy_address = proxy.url, proxy.address
        await link.log_in(opening)
        return link

    def pair(
        self,
        *,
        account_id: str,
        by_code: bool,
        phone: str,
        seconds: float,
        device: NewDevice = PLAIN_DEVICE,
    ) -> WebPairing:
        request = pb.PairDevice(
            account_id=account_id,
            phone=phone if by_code else "",
            device_name=device.name,
            with_history=device.with_history,
        )
        if device.proxy is not None:
            request.proxy, request.proxy_address = device.proxy.url, device.proxy.address
        return WebPairing(self.sidecar, request, seconds)
