"""A driver with its network, for the contract that every driver keeps. A new driver brings its own world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from typing import Any, ClassVar, Protocol

from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Failure, Refusal, Refused
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.memory.actions import Act
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.rows import RowsDriver, first_rows
from mesh_session_node.drivers.simulated.driver import SimulatedDriver
from mesh_session_node.drivers.simulated.state import SimulatedState, StoredState
from mesh_simulator.network import Network
from mesh_simulator.service import SimulatorServicer
from mesh_simulator.settings import SimulatorSettings
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.v1 import content_pb2, message_pb2
from tests.support.driver_capabilities import EVERYTHING, Can
from tests.support.eventually import eventually
from tests.support.network_acts import seen_in
from tests.support.whatsapp_web_world import WhatsappWebWorld, whatsapp_web_world

UNKNOWN = "hidden:404"
"""An address that no network knows."""


class DriverWorld(Protocol):
    """What the contract needs of a network. Phones are in E.164; a person's answers come by themselves or
    with `answer`.
    """

    @property
    def driver(self) -> Driver: ...

    async def paired(self, phone: str) -> Paired:
        """A paired account, without the ceremony."""

    async def ask_passkey(self) -> None:
        """The running attempt asks for a passkey, and once that has answered, for a comparison."""

    async def accept(self, code: PairingCode, phone: str) -> None:
        """Somebody scans the QR code, or types the letters."""

    async def refuse_pairing(self) -> None:
        """The running attempt is refused, for the number that `bad_phone` is."""

    async def time_out_pairing(self) -> None:
        """Nobody accepts the running attempt in time."""

    async def answer(self) -> None:
        """Let the network do what it does with what it was handed: acknowledge, refuse, receipt, log out."""

    async def group_of(self, phone: str, member: str) -> str:
        """The address of a group of an account and a person."""

    async def group_run_by(self, phone: str, member: str) -> str:
        """The address of a group of an account and a person, of which the person alone is an
        administrator.
        """

    async def let_it_be_late(self, phone: str) -> None:
        """From now on it is too late to edit what the account sent, and to take it back."""

    async def seen(self, phone: str) -> list[str]:
        """What the network saw the account do beside sending, such as `edit M1`; see `seen_in`."""

    async def write_to(self, phone: str, sender: str, text: str) -> None:
        """A person (an address) writes to an account."""

    async def write_from_phone(self, phone: str, to: str, text: str) -> None:
        """The account itself writes to a person (an address), on its phone."""

    async def answer_to(self, phone: str, sender: str, quoted: str) -> None:
        """A person (an address) answers the account's message `M1`, which said `quoted`."""

    async def refuse(self, phone: str, code: int) -> None:
        """From now on the account's messages are refused as BLOCKED, with the network's number."""

    async def unacknowledged(self, phone: str) -> int:
        """How many messages the network will offer to the account again."""

    async def end(self, phone: str, end: End) -> None:
        """The network ends the account's connection: LOST, LOGGED_OUT or BANNED."""

    async def refuse_logins(self, phone: str, end: End) -> None:
        """From now on the account's logins end so: REFUSED, LOGGED_OUT or BANNED."""

    async def go_away(self) -> None:
        """The network cannot be reached any more; whoever pairs loses the connection."""

    async def file(self, data: bytes) -> bytes:
        """What fetches a file that the network stores."""

    async def without_file(self) -> bytes:
        """What would fetch a file that the network does not have."""

    async def register(self, phone: str, *, on_network: bool) -> None:
        """The number is, or is not, on the network."""


class MemoryWorld:
    """The network in memory: the world plays its part."""

    kind: ClassVar[type[MemoryDriver]] = MemoryDriver
    can: ClassVar[frozenset[Can]] = EVERYTHING - {Can.ROWS}

    def __init__(self) -> None:
        self.driver = self.kind()
        self._groups: dict[str, str] = {}
        self._sequence = 0
        self._refusal: int | None = None

    async def paired(self, phone: str) -> Paired:
        state = self.driver.pair_at_once(phone)
        return Paired(state, first_rows(state.stored) if Can.ROWS in self.can else ())

    async def ask_passkey(self) -> None:
        self.driver.pairing.ask_passkey(b"{}")
        self.driver.pairing.compare("1234")

    async def accept(self, code: PairingCode, phone: str) -> None:
        assert self.driver.pairing.codes[-1] == code
        self.driver.pairing.accept(phone)

    async def refuse_pairing(self) -> None:
        pairings = await eventually(lambda: self.driver.pairings)
        pairings[-1].refuse("no such number")

    async def time_out_pairing(self) -> None:
        self.driver.pairing.time_out()

    async def answer(self) -> None:
        link = self.driver.link
        if link.logging_out:
            link.end(End.LOGGED_OUT)
        for message in [*link.sent]:
            if message.to == UNKNOWN:
                link.reject(message.network_id, Failure.UNKNOWN_RECIPIENT)
                continue
            if self._refusal is not None:
                link.reject(message.network_id, Failure.BLOCKED, code=self._refusal)
                continue
            link.ack(message.network_id, recipient=_identity(message.to))
            self._sequence += 1
            member = self._groups.get(message.to, "")
            if message.audience is not None:
                (member,) = message.audience.addresses
            link.receipt(
                message.network_id, member=member, sequence=self._sequence, identity=_identity(member)
            )
        link.sent.clear()

    async def group_of(self, phone: str, member: str) -> str:
        self._groups["group:1"] = member
        return "group:1"

    async def group_run_by(self, phone: str, member: str) -> str:
        self.driver.link.refusal = Refused(Refusal.NOT_AN_ADMIN)
        return await self.group_of(phone, member)

    async def let_it_be_late(self, phone: str) -> None:
        self.driver.link.refusal = Refused(Refusal.TOO_LATE)

    async def seen(self, phone: str) -> list[str]:
        return [said for act in self.driver.link.acts for said in _said(act)]

    async def write_to(self, phone: str, sender: str, text: str) -> None:
        content = content_pb2.Content(text=content_pb2.TextContent(body=text))
        self.driver.link.receive(Incoming("IN1", sender, sender, "", content, 1, identity=_identity(sender)))

    async def write_from_phone(self, phone: str, to: str, text: str) -> None:
        content = content_pb2.Content(text=content_pb2.TextContent(body=text))
        own = f"phone:{phone}"
        self.driver.link.receive(
            Incoming("IN1", to, own, "", content, 1, from_account=True, identity=_identity(to))
        )

    async def answer_to(self, phone: str, sender: str, quoted: str) -> None:
        said = content_pb2.Content(text=content_pb2.TextContent(body=quoted))
        reply_to = Reference("M1", "", f"phone:{phone}", said)
        content = content_pb2.Content(text=content_pb2.TextContent(body="yes"))
        self.driver.link.receive(Incoming("IN1", sender, sender, "", content, 1, reply_to=reply_to))

    async def refuse(self, phone: str, code: int) -> None:
        self._refusal = code

    async def unacknowledged(self, phone: str) -> int:
        return int("IN1" not in self.driver.link.acknowledged)

    async def end(self, phone: str, end: End) -> None:
        self.driver.link.end(end)

    async def refuse_logins(self, phone: str, end: End) -> None:
        self.driver.refusal = ConnectionEnded(end)

    async def go_away(self) -> None:
        self.driver.refusal = ConnectionEnded(End.LOST)
        for pairing in self.driver.pairings:
            pairing.lose()

    async def file(self, data: bytes) -> bytes:
        self.driver.blobs["file"] = data
        return b"file"

    async def without_file(self) -> bytes:
        return b"nothing"

    async def register(self, phone: str, *, on_network: bool) -> None:
        if on_network:
            self.driver.users[phone] = phone.removeprefix("+")


class RowsWorld(MemoryWorld):
    """The same with a state in rows."""

    kind = RowsDriver
    can = EVERYTHING - {Can.RATCHET}


class SimulatedWorld:
    """The simulated network in this process, on a real port, driven through its own API."""

    kind: ClassVar[type[SimulatedDriver]] = SimulatedDriver
    can: ClassVar[frozenset[Can]] = EVERYTHING - {Can.ROWS, Can.PASSKEYS}

    def __init__(self, network: Network) -> None:
        self.driver = SimulatedDriver(network.address)
        self._network = network
        self._api: Any = SimulatorServicer(network)
        self._unregistered: list[str] = []
        self._away = False

    async def paired(self, phone: str) -> Paired:
        await self._ask("CreateNetworkAccount", api.CreateNetworkAccountRequest(phone=phone))
        issued = await self._ask("IssueCredential", api.IssueCredentialRequest(phone=phone))
        stored = StoredState(issued.user_id, issued.secret, phone, "", "", issued.counter)
        return Paired(SimulatedState(stored))

    async def ask_passkey(self) -> None:
        """It never does."""

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
        """The network waits for a moment only, see `simulated_world`."""

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
        request = api.SetBehaviourRequest(phone=phone)
        request.behaviour.edit_within.FromTimedelta(timedelta())
        request.behaviour.revoke_within.FromTimedelta(timedelta())
        await self._ask("SetBehaviour", request)

    async def seen(self, phone: str) -> list[str]:
        return seen_in(self._network.ledger.read())

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
        await self._fault(phone, api.FAULT_KIND_REFUSE_LOGINS if end is End.REFUSED else _ENDS[end])

    async def go_away(self) -> None:
        if not self._away:
            self._away = True
            await self._network.close()

    async def file(self, data: bytes) -> bytes:
        put = await self._ask("PutNetworkBlob", api.PutNetworkBlobRequest(data=data))
        return wire.Blob(ref=put.ref, sha256=put.sha256, size=len(data)).SerializeToString()

    async def without_file(self) -> bytes:
        return wire.Blob(ref=sha256(b"nothing").hexdigest()).SerializeToString()

    async def register(self, phone: str, *, on_network: bool) -> None:
        if not on_network:
            self._unregistered.append(phone)
            await self._ask("SetNetwork", api.SetNetworkRequest(unregistered_phones=self._unregistered))

    async def _fault(self, phone: str, kind: api.FaultKind.ValueType) -> None:
        await self._ask("InjectFault", api.InjectFaultRequest(kind=kind, phone=phone))

    async def _ask(self, method: str, request: Any) -> Any:
        return await getattr(self._api, method)(request, None)


def _said(act: Act) -> list[str]:
    """An act at the network in memory, as `seen_in` has it."""
    if act.name in ("edit", "revoke", "pin"):
        return [f"{act.name} {act.arguments[1].network_id}"]
    if act.name == "mark_read":
        return [f"{'played' if act.arguments[3] else 'read'} {one}" for one in act.arguments[2]]
    if act.name == "show_typing":
        return [message_pb2.TypingState.Name(act.arguments[1]).removeprefix("TYPING_STATE_").lower()]
    return ["app state"]


def _identity(address: str) -> Identity | None:
    """What the network in memory knows of a person besides the address."""
    return Identity(phone=address[6:], user_id=address[7:]) if address.startswith("phone:") else None


_ENDS = {
    End.LOST: api.FAULT_KIND_DROP_CONNECTION,
    End.LOGGED_OUT: api.FAULT_KIND_LOG_OUT,
    End.BANNED: api.FAULT_KIND_BAN,
}


@asynccontextmanager
async def simulated_world() -> AsyncIterator[DriverWorld]:
    """QR codes are replaced every 0.2 s, and an attempt ends after 0.5 s."""
    network = Network(
        SimulatorSettings(
            listen="127.0.0.1:0",
            delivered_after_seconds=0.0,
            linger_seconds=0.2,
            qr_seconds=0.2,
            pair_timeout_seconds=0.5,
        )
    )
    await network.start()
    timers = asyncio.create_task(network.timers.run(), name="timers")
    world = SimulatedWorld(network)
    try:
        yield world
    finally:
        timers.cancel()
        await world.go_away()


@asynccontextmanager
async def memory_world() -> AsyncIterator[DriverWorld]:
    yield MemoryWorld()


@asynccontextmanager
async def rows_world() -> AsyncIterator[DriverWorld]:
    yield RowsWorld()


class WorldKind(Protocol):
    """A class of worlds."""

    @property
    def kind(self) -> type[Driver]:
        """Its driver's class."""

    @property
    def can(self) -> Collection[Can]:
        """What the network has; cases that need more are skipped."""


WORLDS: Mapping[str, tuple[WorldKind, Callable[[], AbstractAsyncContextManager[DriverWorld]]]] = {
    "memory": (MemoryWorld, memory_world),
    "memory, in rows": (RowsWorld, rows_world),
    "simulated": (SimulatedWorld, simulated_world),
    "whatsapp_web": (WhatsappWebWorld, whatsapp_web_world),
}
"""By the name that the table of drivers has: the class that says what it can do, and how it is opened."""
