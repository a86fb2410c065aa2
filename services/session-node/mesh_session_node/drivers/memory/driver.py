"""A network in memory. Nothing happens by itself: the test says what the network does, and the session hears
of it before the call returns.

    driver = MemoryDriver()
    state = driver.pair_at_once("+4915112345678")
    link = await driver.connect(state, events)      # logged in
    link.send(message)                              # now in driver.link.sent
    driver.link.ack(message.network_id)             # calls events.on_ack

`refusal` and `hold_logins` say how logins go, `on_login` runs in the middle of one. A second login of the
same user ends the first as REPLACED. Pairing attempts are in `pairings`, files in `blobs`, numbers that are
on the network in `users`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.drivers.interface import content
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import MediaPart, References, refers
from mesh_session_node.drivers.interface.device import PLAIN_DEVICE, NewDevice, Proxy
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.media_limits import LINKED_DEVICE
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.interface.pairing import Paired
from mesh_session_node.drivers.interface.ratchet import BLOCK
from mesh_session_node.drivers.interface.state import DriverState, StateRows
from mesh_session_node.drivers.memory.channel_actions import MemoryChannel
from mesh_session_node.drivers.memory.group_actions import MemoryGroups
from mesh_session_node.drivers.memory.link import MemoryLink
from mesh_session_node.drivers.memory.pairing import MemoryPairing
from mesh_session_node.drivers.memory.state import MemoryState, StoredState, load_state
from sessionmesh.v1 import content_pb2, message_pb2, session_pb2


class MemoryDriver:
    """Implements `Driver`; no account of a running mesh has it. `block` is how many ratchet positions a state
    reserves at once.
    """

    name = "memory"
    pairing_methods = (session_pb2.PAIR_METHOD_QR, session_pb2.PAIR_METHOD_CODE)
    content_kinds = frozenset(content_pb2.Content.DESCRIPTOR.fields_by_name)
    capabilities = frozenset(Capability)
    media_limits = LINKED_DEVICE
    program = None

    def __init__(self, *, block: int = BLOCK) -> None:
        self.links: list[MemoryLink] = []
        """Every connection that was begun, in order."""
        self.pairings: list[MemoryPairing] = []
        """Every pairing attempt, in order."""
        self.blobs: dict[str, bytes] = {}
        """The files that the network stores, by reference."""
        self.users: dict[str, str] = {}
        """The user id of each phone number that is on the network."""
        self.of_groups = MemoryGroups()
        """The groups, and who is in them."""
        self.channels: dict[str, MemoryChannel] = {}
        """The network's channels, by their addresses."""
        self.refusal: ConnectionEnded | None = None
        """While set, every connect ends so."""
        self.hold_logins = False
        """While set, a login waits until the test calls `log_in` or `end` of its link."""
        self.hold_closes = False
        """While set, links are closed only once the test calls their `let_close`."""
        self.on_login: Callable[[], None] = _nothing
        """Called when a connection is open and its login has not succeeded yet."""
        self._block = block

    @property
    def link(self) -> MemoryLink:
        """The latest connection."""
        return self.links[-1]

    @property
    def pairing(self) -> MemoryPairing:
        """The latest pairing attempt."""
        return self.pairings[-1]

    def pair_at_once(self, phone: str, push_name: str = "") -> MemoryState:
        """A paired account's state, without an attempt; nothing of its ratchet is reserved yet."""
        user_id = self.users.setdefault(phone, phone.removeprefix("+"))
        return MemoryState(StoredState(user_id, phone, push_name, f"{user_id}0", 0), self._block)

    # --- Driver

    def network_id(self, message: UUID) -> str:
        return content.network_id_of(message)

    def message_of(self, network_id: str) -> UUID | None:
        return content.message_of(network_id)

    def prepares(self, request: message_pb2.SendMessageRequest) -> bool:
        return refers(request)

    def encode(
        self, request: message_pb2.SendMessageRequest, references: References, media: MediaPart | None
    ) -> tuple[bytes, Sequence[str]]:
        """The serialised request is the network's form."""
        return request.SerializeToString(), () if media is None else (media.blob.ref,)

    def load(self, state: bytes) -> MemoryState:
        return load_state(state, self._block)

    def dump(self, state: DriverState) -> bytes:
        own = _own(state)
        return own.dump(own.next)

    async def connect(
        self, state: DriverState, rows: StateRows, events: LinkEvents, proxy: Proxy | None = None
    ) -> MemoryLink:
        own = _own(state)
        if self.refusal is not None:
            raise ConnectionEnded(self.refusal.end, self.refusal.detail, self.refusal.retry_after)
        if not events.permitted():
            raise ConnectionEnded(End.LOST, "the account has moved to another node")
        link = await self._link(own, rows, events)
        link.proxy = proxy
        link.of_groups = self.of_groups
        if self.hold_closes:
            link.hold_close()
        before, self.links = self.links, [*self.links, link]
        self.on_login()
        if not self.hold_logins:
            link.log_in()
        await link.logged_in()
        for other in before:
            if other.state.user_id == own.user_id:
                other.end(End.REPLACED)
        return link

    def pair(
        self,
        *,
        account_id: str,
        by_code: bool,
        phone: str,
        seconds: float,
        device: NewDevice = PLAIN_DEVICE,
    ) -> MemoryPairing:
        pairing = MemoryPairing(self._accepted, by_code=by_code, phone=phone, seconds=seconds, device=device)
        self.pairings.append(pairing)
        return pairing

    def _accepted(self, phone: str, push_name: str) -> Paired:
        return Paired(self.pair_at_once(phone, push_name))

    async def _link(self, state: MemoryState, _rows: StateRows, events: LinkEvents) -> MemoryLink:
        return MemoryLink(state, events, self.blobs, self.users, self.channels)


def _own(state: DriverState) -> MemoryState:
    if not isinstance(state, MemoryState):
        raise TypeError("not a state of this driver")
    return state


def _nothing() -> None:
    pass
