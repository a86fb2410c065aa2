"""The interface of a network. A driver knows nothing of etcd or Postgres; its user knows nothing of the wire.

A link tells everything that comes over its connection by calling `LinkEvents`, synchronously, in the callback
that read it. `tests/contract/test_driver_contract.py` holds every driver to what is written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import (
    Blob,
    Identity,
    Incoming,
    MediaPart,
    OutgoingMessage,
    References,
)
from mesh_session_node.drivers.interface.device import PLAIN_DEVICE, NewDevice, Proxy
from mesh_session_node.drivers.interface.media_limits import MediaLimits
from mesh_session_node.drivers.interface.notices import Notice
from mesh_session_node.drivers.interface.outcomes import (
    ConnectionEnded,
    End,
    Failure,
    MemberReceipts,
    Receipt,
)
from mesh_session_node.drivers.interface.pairing import Pairing
from mesh_session_node.drivers.interface.state import DriverState, StateRows
from sessionmesh.v1 import message_pb2, server_pb2, session_pb2


class Driver(Protocol):
    """A network."""

    name: str

    @property
    def pairing_methods(self) -> Collection[session_pb2.PairMethod.ValueType]:
        """How accounts are paired."""

    @property
    def content_kinds(self) -> Collection[str]:
        """The kinds of content that can be sent, by the names of Content's fields."""

    @property
    def capabilities(self) -> Collection[Capability]:
        """What else can be done: its links implement the protocols of these."""

    @property
    def media_limits(self) -> MediaLimits:
        """How large files may be. What does not fit is refused before it is sent."""

    @property
    def program(self) -> server_pb2.DriverProgram | None:
        """The program beside the node that speaks to the network; None where the node does."""

    def network_id(self, message: UUID) -> str:
        """The network's id of a message of ours, the same on every attempt; up to 64 characters."""

    def message_of(self, network_id: str) -> UUID | None:
        """Our message behind a network's id; None when the id is not one of ours."""

    def prepares(self, request: message_pb2.SendMessageRequest) -> bool:
        """Whether `encode` needs more than the request: its file handed over, or the messages that it refers
        to looked up.
        """

    def encode(
        self, request: message_pb2.SendMessageRequest, references: References, media: MediaPart | None
    ) -> tuple[bytes, Sequence[str]]:
        """A message in the network's form, and the references of the files in it. Raises
        `FailedPrecondition` UNSUPPORTED_BY_NETWORK for what the network lacks.
        """

    def load(self, state: bytes) -> DriverState:
        """A state from its stored form, which this process or another one wrote. Nothing of its ratchet may
        be used until more is reserved and confirmed.
        """

    def dump(self, state: DriverState) -> bytes:
        """The stored form of a state, as in a `Reservation`."""

    async def connect(
        self, state: DriverState, rows: StateRows, events: LinkEvents, proxy: Proxy | None = None
    ) -> Link:
        """Connect, through the account's proxy where it has one, and log in. Raises `ConnectionEnded`, also
        when the network does not answer in time. When it raises, or is cancelled, nothing of the attempt can
        leave any more.
        """

    def pair(
        self,
        *,
        account_id: str,
        by_code: bool,
        phone: str,
        seconds: float,
        device: NewDevice = PLAIN_DEVICE,
    ) -> Pairing:
        """Begin to pair an account: by a code for that phone, or by QR. `account_id` is for logs. After so
        many `seconds` it is given up; whose network's codes end sooner, and can be had anew, shows others.
        """


class Link(Protocol):
    """A live, logged-in connection of one account."""

    heard: float
    """When something last came from the network, in the loop's time."""
    ended: ConnectionEnded | None
    """Why the connection has ended; None while it stands. Set whether or not `on_end` was called."""

    def send(self, message: OutgoingMessage) -> None:
        """Hand a message over; uses one position of the state's ratchet up, which must have one left, where
        it has one.
        """

    def acknowledge(self, network_id: str) -> None:
        """An incoming message is stored, and the changes that came with it: tell the network."""

    def acknowledge_receipts(self, sequence: int) -> None:
        """Tell the network that every receipt up to this one is stored."""

    def acknowledge_notice(self, sequence: int) -> None:
        """Tell the network that the notice with this sequence is stored."""

    def ping(self) -> None:
        """Ask for a sign of life."""

    def log_out(self) -> None:
        """End the pairing; `on_end` tells when it has ended."""

    def abort(self) -> None:
        """Close now. Nothing that was handed over and not yet written leaves any more, as far as this process
        can say; `on_end` is not called. A second time: nothing.
        """

    async def closed(self) -> None:
        """Return when nothing of the connection can leave any more, also from other processes. Only after
        `abort` or the end.
        """

    async def upload(self, kind: str, pieces: AsyncIterator[bytes], *, public: bool = False) -> Blob:
        """Store a file with the network; `kind` is the kind of content that it is for, by the name of
        Content's field, and `public` says that it is for a post in a channel. Raises `BlobUnavailable`,
        `ConnectionEnded`.
        """

    def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        """The pieces of an incoming message's file. Raises `BlobUnavailable`, `ConnectionEnded`."""


class LinkEvents(Protocol):
    """Who listens to a link. Times are microseconds since the epoch."""

    def permitted(self) -> bool:
        """Whether the account may still be used from here: asked before each step of a login."""

    async def sent(self, network_id: str) -> OutgoingMessage | None:
        """A message that the account sent before, through whichever link: for a recipient that could not
        read it. None for any other one, and for one that cannot be said again. Raises `StateUnavailable`.
        """

    def on_opening(self, link: Link) -> None:
        """A connection logs in: before `connect` returns it, it may bring messages, receipts and notices, and
        takes their acknowledgements. Not called by a driver whose connections bring nothing before.
        """

    def on_ack(self, network_id: str, time: int, recipient: Identity | None = None) -> None:
        """The network has the message. `recipient` says who the person is that it went to, where the network
        does.
        """

    def on_reject(
        self,
        network_id: str,
        failure: Failure,
        detail: str,
        retry_after: float,
        code: int | None = None,
    ) -> None:
        """The network refused the message. `retry_after` is in seconds; 0 where the network named no time.
        `code` is its number of the failure, where it has one.
        """

    def on_receipt(self, network_id: str, receipt: Receipt, time: int, sequence: int) -> None:
        """What became of a message in a chat of two. `sequence` rises from receipt to receipt; 0 when the
        network wants no acknowledgement of it, or counts it with the next one.
        """

    def on_member_receipts(self, told: MemberReceipts, sequence: int) -> None:
        """What became of a message at members of its group, or at those who see a post: of as many at once as
        the network tells of. `sequence` is as in `on_receipt`.
        """

    def on_incoming(self, message: Incoming) -> None:
        """A message came. The network offers it again after each login until it is acknowledged."""

    def on_notice(self, notice: Notice, sequence: int) -> None:
        """Something happened that is no message. The network offers it again after each login until it is
        acknowledged under `sequence`, which names it in this connection; with 0 it wants no acknowledgement.
        """

    def on_restrictions(self, restrictions: Sequence[session_pb2.Restriction]) -> None:
        """What the network does not let the account do; in place of what it said before, empty: nothing."""

    def on_end(self, link: Link, end: End, detail: str) -> None:
        """The connection has ended, other than by `abort`. Called at most once; for a connection that ends
        right after its login possibly before `connect` has returned it, so its user looks at `ended` then.
        """
