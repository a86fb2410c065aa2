"""The seam to a network. A driver knows nothing of etcd or Postgres; who uses it knows nothing of the
network's wire.

Everything that comes from a connection is told by calling `LinkEvents` synchronously, in the callback that
brought it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from sessionmesh.v1 import content_pb2, message_pb2


class End(Enum):
    """Why a connection is over, or could not begin."""

    LOST = auto()
    """Broken, or the network went away: try again."""
    REFUSED = auto()
    """The network takes no login now: try again."""
    REPLACED = auto()
    LOGGED_OUT = auto()
    BANNED = auto()


class ConnectionEnded(Exception):
    """No connection, or none any more. `retry_after` is in seconds, where the network said so."""

    def __init__(self, end: End, detail: str = "", retry_after: float = 0.0) -> None:
        super().__init__(f"{end.name}: {detail}" if detail else end.name)
        self.end = end
        self.detail = detail
        self.retry_after = retry_after


class PairingRefused(Exception):
    """The network will not pair; the text is its words."""


class BlobUnavailable(Exception):
    """The network does not have a blob, or does not take it, and never will. `too_large` says why."""

    def __init__(self, detail: str, *, too_large: bool = False) -> None:
        super().__init__(detail)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class Reservation:
    """A state of the driver that must be stored before what it allows may happen."""

    state: bytes
    upto: int


class DriverState(Protocol):
    """An account's pairing and ratchet. It is stored ahead of its use: what is not `confirmed` cannot be
    used.
    """

    @property
    def phone(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def push_name(self) -> str: ...
    @property
    def left(self) -> int:
        """Messages that may be sent from what is stored."""

    def plan(self) -> Reservation | None:
        """One more message will be sent: what must be stored with it, None when what is stored suffices."""

    def reserve(self, messages: int) -> Reservation:
        """What must be stored for so many more to be sent."""

    def confirm(self, reservation: Reservation) -> None:
        """It is stored."""

    def drop(self, reservation: Reservation) -> None:
        """It is not stored, or nobody knows."""

    def skip(self) -> None:
        """The network has seen a later position than it should have: jump ahead."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What a link sends. `payload` is what the driver's `encode` made."""

    network_id: str
    to: str
    payload: bytes
    blobs: Sequence[str] = ()


class Failure(Enum):
    """Why the network refused a message."""

    UNKNOWN_RECIPIENT = auto()
    NOT_A_MEMBER = auto()
    CONTENT = auto()
    RATE_LIMITED = auto()
    RATCHET = auto()
    """Encrypted from a position that cannot be used: sending again from a later one helps."""
    BLOB_GONE = auto()
    """Media must be handed over again."""
    OTHER = auto()


class Receipt(Enum):
    """What became of a message."""

    DELIVERED = auto()
    READ = auto()
    PLAYED = auto()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the network. Addresses are the driver's text; `reply_to` and `target` are network
    message ids.

    `blob` is what `Link.fetch` needs for its media. `target` is the message that a reaction, edit or
    revocation is about. Time is microseconds since the epoch.
    """

    network_id: str
    chat: str
    sender: str
    push_name: str
    content: content_pb2.Content
    time: int
    reply_to: str = ""
    target: str = ""
    mentions: Sequence[str] = ()
    forwarded: bool = False
    expire_seconds: int = 0
    blob: bytes | None = None
    edited: content_pb2.Content | None = None


class LinkEvents(Protocol):
    """Who listens to a link. Times are microseconds since the epoch."""

    def permitted(self) -> bool:
        """Whether the account is still to be used from here: asked before each step of a login."""

    def on_ack(self, network_id: str, time: int) -> None: ...
    def on_reject(self, network_id: str, failure: Failure, detail: str, retry_after: float) -> None: ...
    def on_receipt(
        self, network_id: str, receipt: Receipt, time: int, member: str, sequence: int
    ) -> None: ...
    def on_incoming(self, message: Incoming) -> None: ...
    def on_end(self, link: Link, end: End, detail: str) -> None: ...


class Link(Protocol):
    """A live, logged-in connection of one account."""

    heard: float
    """When the network was last heard, in the loop's time."""
    ended: ConnectionEnded | None
    """Set when the connection has ended, told or not."""

    def send(self, message: OutgoingMessage) -> None:
        """Hand a message over. The state must have one left."""

    def acknowledge(self, network_id: str) -> None:
        """An incoming message is stored."""

    def acknowledge_receipts(self, sequence: int) -> None:
        """Every receipt up to this one is stored."""

    def ping(self) -> None:
        """Ask for a sign of life."""

    def log_out(self) -> None:
        """End the pairing; the end comes as `on_end`."""

    def abort(self) -> None:
        """Close now. Nothing that was handed over and not yet written leaves any more; `on_end` is not
        called.
        """

    async def upload(self, pieces: AsyncIterator[bytes]) -> Blob:
        """Store a file with the network. Raises `BlobUnavailable`, `ConnectionEnded`."""

    def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        """The pieces of an incoming message's file. Raises `BlobUnavailable`, `ConnectionEnded`."""

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        """Which numbers are on the network, in their order. Raises `ConnectionEnded`."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file as the network stores it."""

    ref: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class MediaPart:
    """An outgoing message's file, once the network has it."""

    blob: Blob
    mime_type: str
    file_name: str
    width: int = 0
    height: int = 0
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NumberStatus:
    """Whether a number is on the network."""

    phone: str
    registered: bool
    user_id: str = ""
    hidden_id: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a message refers to, by the network's ids."""

    reply_to: str = ""
    reply_to_sender: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class PairingCode:
    """What to show: a QR text, or eight letters. Expires at microseconds since the epoch."""

    qr: str
    letters: str
    expire_time: int


class Driver(Protocol):
    """A network."""

    name: str

    def encode(
        self, request: message_pb2.SendMessageRequest, context: Context, media: MediaPart | None
    ) -> tuple[bytes, Sequence[str]]:
        """A message in the network's form, and the blobs in it. Raises `Unimplemented` for what the network
        lacks.
        """

    def load(self, state: bytes) -> DriverState:
        """The state as it was stored, by this process or another one."""

    def dump(self, state: DriverState) -> bytes:
        """The state to store; as in a `Reservation`."""

    async def connect(self, state: DriverState, events: LinkEvents) -> Link:
        """Connect and log in. Raises `ConnectionEnded`, also when the network does not answer in time."""

    def pair(
        self, *, by_code: bool, phone: str, device_name: str
    ) -> AsyncGenerator[PairingCode | DriverState, None]:
        """Codes to show, then the new state; ends without one when nobody accepted in time.

        Raises `PairingRefused`, `ConnectionEnded`. Closing the iterator gives the attempt up.
        """
