"""A driver with its network, for the contract that every driver keeps. A new driver brings its own world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.interface.outcomes import End, Failure
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.rows import RowsDriver
from mesh_session_node.drivers.simulated.driver import SimulatedDriver
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import call_pb2, message_pb2
from tests.support.driver_capabilities import EVERYTHING, Can
from tests.support.memory_world import memory_world, rows_world
from tests.support.proxy_server import ProxyServer
from tests.support.simulator_world import simulated_world
from tests.support.whatsapp_web_world import linked_devices


class DriverWorld(Protocol):
    """What the contract needs of a network, and an account of it that no other case has. What people do comes
    by itself or with `answer`.
    """

    phone: str
    """The account's number, in E.164."""

    @property
    def driver(self) -> Driver: ...

    async def paired(self) -> Paired:
        """The account paired, without the ceremony."""

    async def accept(self, code: PairingCode) -> None:
        """Somebody scans the QR code, or types the letters, with the account's phone."""

    async def accept_with_passkey(self, code: PairingCode) -> None:
        """Somebody does, and is asked for the account's passkey, and then for a comparison."""

    def passkey_answer(self, options: bytes) -> bytes:
        """What the account's passkey answers."""

    async def refuse_pairing(self) -> None:
        """The running attempt is refused, for a number that is none."""

    async def time_out_pairing(self) -> None:
        """The running attempt's time is over."""

    async def answer(self) -> None:
        """Let the network do what it does with what it was handed: acknowledge, refuse, receipt, log out."""

    async def group_of(self, *people: str) -> str:
        """The address of a group of the account and some people (addresses)."""

    async def group_run_by(self, person: str) -> str:
        """The address of a group of the account and a person, of which only that is an administrator."""

    async def ask_to_join(self, group: str, code: str, person: str) -> None:
        """A person (an address) asks to join a group, by the code of its invite link."""

    async def act_in_group(self, person: str, query: wire.Query) -> wire.Answer:
        """A person (an address) does in a group what a client could; the network's answer."""

    async def refuse_being_added(self, person: str) -> None:
        """From now on a person (an address) can only be invited to groups."""

    async def channel_of_others(self, name: str, *posts: str) -> str:
        """The address of a channel of somebody else, in which this was posted."""

    async def invite_to(self, channel: str) -> str:
        """The code of a channel's invite link."""

    async def post_in(self, channel: str, text: str) -> str:
        """Whoever runs a channel posts there; the network's id of the post."""

    async def post_file_in(self, channel: str, data: bytes) -> None:
        """Whoever runs a channel posts a picture there."""

    async def edit_in(self, channel: str, post: str, text: str) -> None:
        """Whoever runs a channel has a post say something else."""

    async def react_in(self, channel: str, post: str, emoji: str, count: int, views: int) -> None:
        """So many people react so to a post, and so many have seen it."""

    async def refuse_posts(self) -> None:
        """The network refuses posts in channels that the account does not run."""

    async def rename(self, channel: str, name: str) -> None:
        """Whoever runs a channel gives it another name."""

    async def let_it_be_late(self) -> None:
        """From now on it is too late to edit what the account sent, and to take it back."""

    async def seen(self) -> list[str]:
        """What the network saw the account do beside sending, such as `edit M1`; see `seen_in`."""

    async def write_to(self, sender: str, text: str) -> None:
        """A person (an address) writes to the account."""

    async def write_from_phone(self, to: str, text: str) -> None:
        """The account itself writes to a person (an address), on its phone."""

    async def answer_to(self, sender: str, quoted: str) -> None:
        """A person (an address) answers the account's message `M1`, which said `quoted`."""

    async def show_typing(
        self, person: str, state: message_pb2.TypingState.ValueType, group: str = ""
    ) -> None:
        """A person (an address) does this in the chat with the account, or in a group of both."""

    async def show_presence(self, person: str, *, online: bool, last_seen: int | None = None) -> None:
        """A person (an address) comes online, or goes; `last_seen` is in microseconds, whole seconds."""

    async def shows_online(self) -> bool:
        """Whether the account does."""

    async def ringing_calls(self) -> int:
        """How many calls to the account have not ended."""

    async def place_call(self, caller: str, *, video: bool) -> str:
        """A person (an address) calls; the network's id of the call."""

    async def end_call(self, call_id: str, cause: call_pb2.CallEndCause.ValueType) -> None:
        """The call ends."""

    async def unacknowledged_notices(self) -> int:
        """How much beside messages the network will tell the account again."""

    async def refuse(self, failure: Failure) -> int:
        """From now on the account's messages are refused so, with this number of the network."""

    async def on_phone(self, chat: str, **act: Any) -> None:
        """Somebody does something on the account's phone, as ActOnPhoneRequest of SimulatorService has it."""

    async def give_history(self, chat: str, messages: int) -> None:
        """The account's phone has so many messages of a chat's past."""

    async def unacknowledged(self) -> int:
        """How many messages the network will offer to the account again."""

    async def end(self, end: End) -> None:
        """The network ends the account's connection: LOST, LOGGED_OUT or BANNED."""

    async def refuse_logins(self, end: End) -> None:
        """From now on the account's logins end so: REFUSED, LOGGED_OUT or BANNED."""

    async def go_away(self) -> None:
        """The network cannot be reached any more; whoever pairs loses the connection."""

    async def file(self, data: bytes) -> bytes:
        """What fetches a file that the network stores."""

    async def without_file(self) -> bytes:
        """What would fetch a file that the network does not have."""

    async def device(self) -> tuple[str, bool]:
        """What the device that was paired last called itself, and whether it asked for the chats' past."""

    def went_through(self, server: ProxyServer, connections: int) -> bool:
        """Whether the driver made so many connections through the proxy."""

    async def refuse_proxy(self, server: ProxyServer) -> None:
        """The proxy is about to refuse the driver."""

    async def show(
        self, phone: str, *, about: str = "", picture: bytes = b"", business: bool = False
    ) -> None:
        """The person with a number shows this from now on, to everybody."""

    async def save_on_phone(self, phone: str, full_name: str, first_name: str = "") -> None:
        """The account's phone saves the person with a number; without a name it deletes them."""

    async def register(self, phone: str, *, on_network: bool) -> None:
        """The number is, or is not, on the network."""


World = Callable[[], AbstractAsyncContextManager[DriverWorld]]
"""Opens the world of one case."""


@dataclass(frozen=True, slots=True)
class WorldKind:
    """The worlds of a driver: what its network has, as cases that need more are skipped, and what is started
    once for all of them.
    """

    driver: type[Driver]
    can: frozenset[Can]
    started: Callable[[], AbstractAsyncContextManager[World]]


def each_by_itself(world: World) -> Callable[[], AbstractAsyncContextManager[World]]:
    """Nothing is started for all of them."""

    @asynccontextmanager
    async def started() -> AsyncIterator[World]:
        yield world

    return started


NOT_IN_MEMORY = (Can.OFFERS_NOTICES_AGAIN, Can.TELLS_GROUPS)
WORLDS: Mapping[str, WorldKind] = {
    "memory": WorldKind(MemoryDriver, EVERYTHING - {Can.ROWS, *NOT_IN_MEMORY}, each_by_itself(memory_world)),
    "memory, in rows": WorldKind(
        RowsDriver, EVERYTHING - {Can.RATCHET, *NOT_IN_MEMORY}, each_by_itself(rows_world)
    ),
    "simulated": WorldKind(
        SimulatedDriver, EVERYTHING - {Can.ROWS, Can.PASSKEYS}, each_by_itself(simulated_world)
    ),
    "whatsapp_web": WorldKind(
        WhatsappWebDriver, EVERYTHING - {Can.RATCHET, Can.TELLS_CONTACTS}, linked_devices
    ),
}
"""By the name that the table of drivers has."""
