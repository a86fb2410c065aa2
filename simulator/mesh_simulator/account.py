"""What the network knows of one account and of one group."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh_simulator.addresses import hidden_id_of, user_id_of
from sessionmesh.simnet.v1 import wire_pb2 as wire

if TYPE_CHECKING:
    from mesh_simulator.connection import Connection
    from mesh_simulator.faults import Effects

SEEN_IDS = 100_000
"""Message ids of an account that the network remembers; an older one would be shown again."""
OPEN_RECEIPTS = 50_000
"""Receipts kept for an account that is away or does not acknowledge; then the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the people around an account behave, and the limits it has. Delays in seconds."""

    delivered_delay: float = 0.05
    read_delay: float | None = None
    """Counted from delivery; None: nobody reads."""
    auto_reply: str = ""
    """Text that a person answers every message with; empty: nobody answers."""
    messages_per_minute: int = 0
    """0: unlimited."""


@dataclass(slots=True)
class Waiting:
    """An inbound message not acknowledged yet. `origin` wrote it, when that is an account too."""

    message: wire.Inbound
    origin: Account | None


class Account:
    """An account of the network; thousands exist, so it is small."""

    __slots__ = (
        "banned",
        "behaviour",
        "connection",
        "counter",
        "effects",
        "hidden_id",
        "inbound",
        "inbound_counter",
        "number",
        "own_behaviour",
        "phone",
        "push_name",
        "receipt_acks",
        "receipt_sequence",
        "receipts",
        "secret_digest",
        "seen",
        "theoretical_arrival",
        "user_id",
    )

    def __init__(self, number: int, phone: str, push_name: str, behaviour: Behaviour) -> None:
        self.number = number
        self.phone = phone
        self.push_name = push_name
        self.user_id = user_id_of(phone)
        self.hidden_id = hidden_id_of(phone)
        self.behaviour = behaviour
        self.own_behaviour = False
        self.secret_digest = b""
        """SHA-256 of the credential; empty: not paired, or logged out."""
        self.banned = False
        self.connection: Connection | None = None
        self.effects: Effects | None = None
        self.counter = -1
        """Highest ratchet position seen."""
        self.seen: dict[str, None] = {}
        self.inbound: dict[str, Waiting] = {}
        self.inbound_counter = 0
        self.receipts: deque[tuple[int, bytes]] = deque(maxlen=OPEN_RECEIPTS)
        """Sequence and frame of the receipts that may have to be sent again."""
        self.receipt_sequence = 0
        self.receipt_acks = False
        self.theoretical_arrival = 0.0
        """When the rate limit would have this account's next message (GCRA), monotonic seconds."""

    def remember(self, message_id: str) -> None:
        """Recognise `message_id` from now on."""
        self.seen[message_id] = None
        if len(self.seen) > SEEN_IDS:
            del self.seen[next(iter(self.seen))]

    def wait_for_limit(self, now: float) -> float:
        """Seconds until the account may send again, 0 when it may (that message is then counted)."""
        limit = self.behaviour.messages_per_minute
        interval = 60 / limit
        ahead = max(self.theoretical_arrival, now) - now
        if ahead > 60 - interval:
            return ahead - (60 - interval)
        self.theoretical_arrival = now + ahead + interval
        return 0


@dataclass(slots=True)
class Group:
    """A group. `members` maps phone numbers to whether they are administrators."""

    group_id: str
    subject: str
    create_time_us: int
    members: dict[str, bool] = field(default_factory=dict)
