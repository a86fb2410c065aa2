"""What the network knows of one account and of one group."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mesh_simulator.accounts.addresses import hidden_id_of, user_id_of
from mesh_simulator.accounts.shown import Shown
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_KNOWN_MESSAGE_IDS = 100_000
"""Message ids of an account that the network remembers; an older one would be delivered again."""
MAX_PENDING_RECEIPTS = 50_000
"""Receipts kept for an account that is offline or does not acknowledge; then the oldest are forgotten."""
MINUTE = 60.0


class Client(Protocol):
    """A client's connection, as the rest of the network uses it."""

    number: int
    """No other connection has it, nor had it before a restart."""
    account: Account | None
    """The account it logged in as."""
    told: dict[str, None]
    """Addresses of recipients that it was told the identity of."""

    def put(self, frame: bytes) -> bool:
        """Send an encoded frame with the next flush; False when nothing can be sent any more."""

    def send(self, frame: wire.Frame) -> bool:
        """As `put`, of a frame that is not encoded yet."""

    def end(self, reason: wire.ClosingReason.ValueType, message: str = "") -> None:
        """Tell the client why, and close."""

    def end_with(self, frame: wire.Frame) -> None:
        """Send `frame` as the last one, and close."""

    def abort(self) -> None:
        """Reset the connection."""

    def apply(self, effects: Effects | None) -> None:
        """Shape the traffic by `effects` from now on."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Messages to `recipient` (an address; empty: to anybody) are refused with `reason` and `code`."""

    recipient: str
    reason: wire.RejectReason.ValueType
    code: int


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the people around an account behave, and the limits it has. Delays in seconds."""

    delivered_delay: float = 0.05
    read_delay: float | None = None
    """Counted from delivery; None: nobody reads."""
    auto_reply: str = ""
    """Text that people answer every message with; empty: nobody answers."""
    messages_per_minute: int = 0
    """0: unlimited."""
    refusals: tuple[Refusal, ...] = ()
    """The first that fits counts."""
    restrictions: tuple[wire.Restriction, ...] = ()
    """What the account is told that it may not do."""
    edit_within: float = 15 * 60.0
    """Seconds after which a message can no longer be edited."""
    revoke_within: float = 60 * 3600.0
    """Seconds after which its writer can no longer take a message back."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What the present faults do to one account."""

    refuse_logins: bool = False
    ack_delay: float = 0.0
    """Seconds that acknowledgements are late."""
    lose_acks: bool = False
    drop_inbound_acks: bool = False
    stalled: bool = False
    latency: float = 0.0
    """Seconds that everything sent to the client is late."""
    bandwidth: float = 0.0
    """Bytes a second, each way; 0: unlimited."""

    @property
    def shape_traffic(self) -> bool:
        """Whether the bytes of the connection are held back, and not only single frames."""
        return self.stalled or self.latency > 0 or self.bandwidth > 0


@dataclass(slots=True)
class PendingInbound:
    """An inbound message that is not acknowledged yet; `author` is who wrote it, if that is an account."""

    message: wire.Inbound
    author: Account | None


class AppStateValue(NamedTuple):
    """What holds of a name, and the version with which it came."""

    value: bytes
    version: int


class Account:
    """An account of the network; thousands exist, so it is small."""

    __slots__ = (
        "app_state",
        "app_state_version",
        "banned",
        "behaviour",
        "blocked",
        "client",
        "counter",
        "device_name",
        "effects",
        "has_own_behaviour",
        "hidden_id",
        "inbound",
        "inbound_counter",
        "known_message_ids",
        "notice_sequence",
        "notices",
        "number",
        "past",
        "people",
        "phone",
        "push_name",
        "receipt_acks",
        "receipt_sequence",
        "receipts",
        "secret_digest",
        "shown",
        "theoretical_arrival",
        "user_id",
        "watching",
        "with_history",
    )

    def __init__(self, number: int, phone: str, push_name: str, behaviour: Behaviour) -> None:
        self.number = number
        """In the ledger."""
        self.phone = phone
        self.push_name = push_name
        self.user_id = user_id_of(phone)
        self.hidden_id = hidden_id_of(phone)
        self.behaviour = behaviour
        self.has_own_behaviour = False
        """Whether `behaviour` is not the one that all accounts have by default."""
        self.secret_digest = b""
        """SHA-256 of the credential; empty: not paired, or logged out."""
        self.device_name = ""
        """What the client called itself when it was paired last."""
        self.with_history = False
        """It asked for the chats' past then."""
        self.banned = False
        self.blocked: set[str] | None = None
        """Phone numbers of whom it has blocked; None: nobody."""
        self.shown: Shown | None = None
        """What it shows, and its address book; None: all as it is at first."""
        self.client: Client | None = None
        """The one connection that is logged in."""
        self.effects: Effects | None = None
        """None: no fault affects it."""
        self.counter = -1
        """Highest ratchet position seen."""
        self.known_message_ids: dict[str, int] = {}
        """Those of accepted messages, in their order, with when that was, in microseconds since the epoch."""
        self.app_state: dict[str, AppStateValue] | None = None
        """What the account's devices have in common, by name, oldest change first; None: nothing."""
        self.app_state_version = 0
        """How often that has changed."""
        self.past: dict[str, int] | None = None
        """How many messages of its past the phone has of a chat, by the chat's address; None: none at all."""
        self.inbound: dict[str, PendingInbound] = {}
        """By message id, oldest first."""
        self.inbound_counter = 0
        self.people: dict[str, None] = {}
        """Phone numbers of everybody whom the account has written to, or who has written to it."""
        self.receipts: deque[tuple[int, bytes]] = deque(maxlen=MAX_PENDING_RECEIPTS)
        """Sequence and frame of the receipts that may have to be sent again."""
        self.receipt_sequence = 0
        self.watching: set[str] | None = None
        """Phone numbers of the people whose presence its client wants to be told; None: nobody's."""
        self.notice_sequence = 0
        self.notices: deque[wire.Notice] | None = None
        """What it was told beside messages and has not acknowledged, oldest first; None: nothing."""
        self.receipt_acks = False
        """Whether the client acknowledges receipts."""
        self.theoretical_arrival = 0.0
        """When the rate limit would have this account's next message (GCRA), monotonic seconds."""

    def behave_as(self, behaviour: Behaviour) -> None:
        """Change the behaviour; the client is told when other things are restricted now."""
        changed = behaviour.restrictions != self.behaviour.restrictions
        self.behaviour = behaviour
        if changed and self.client is not None:
            self.tell_restrictions(self.client)

    def tell_restrictions(self, client: Client) -> None:
        """Tell `client` what the account may not do, also when that is nothing."""
        client.send(wire.Frame(restrictions=wire.Restrictions(restrictions=self.behaviour.restrictions)))

    def remember(self, message_id: str, time_us: int) -> None:
        """Recognise `message_id`, which was accepted then, when it comes again."""
        self.known_message_ids[message_id] = time_us
        if len(self.known_message_ids) > MAX_KNOWN_MESSAGE_IDS:
            del self.known_message_ids[next(iter(self.known_message_ids))]

    def change_app_state(self, name: str, value: bytes) -> None:
        """What the account's devices have in common under a name is this from now on; empty: nothing."""
        state = {} if self.app_state is None else self.app_state
        state.pop(name, None)
        self.app_state_version += 1
        state[name] = AppStateValue(value, self.app_state_version)
        self.app_state = state

    def wait_for_limit(self, now: float) -> float:
        """Seconds until the account may send again; 0 when it may, and then this message is counted."""
        interval = MINUTE / self.behaviour.messages_per_minute
        ahead = max(self.theoretical_arrival, now) - now
        if ahead > MINUTE - interval:
            return ahead - (MINUTE - interval)
        self.theoretical_arrival = now + ahead + interval
        return 0
