"""What a network may be able to do beside taking and bringing messages: a protocol for each family of acts,
which the links of its driver implement as far as the driver declares it.

All acts return when the network has done what was asked, and raise `Refused` when it did not,
`ConnectionEnded` when there is no connection any more, and `TimeoutError` when the network does not answer:
then it may be done or not. Each sets something, so that doing it twice is as doing it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mesh_session_node.drivers.interface.content import Identity, Reference
from sessionmesh.v1 import message_pb2


class Capability(Enum):
    """One act, in the words of docs/drivers.md."""

    STATUS = "status posts to the people named"
    STATUS_TO_CONTACTS = "status posts to all contacts, or all but some"
    EDIT = "editing messages"
    REVOKE = "taking messages back"
    PIN = "pinning messages"
    STAR = "starring messages"
    DELETE_FOR_ME = "deleting messages on the account's own devices"
    MARK_READ = "telling that messages were read or played"
    END_LIVE_LOCATION = "ending a live location before its time"
    TYPING = "showing that the account writes or records"
    CHECK_NUMBERS = "asking which numbers are on the network"
    BLOCK = "blocking people, and listing who is blocked"


class MessageActions(Protocol):
    """Acts on messages; `target` is the message, of which `network_id`, `chat` and `sender` are given."""

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        """A message of the account says this from now on: `payload` is from the driver's `encode`, without a
        file where it has one. `network_id` is the network's id of the change. Also how a live location ends,
        with END_LIVE_LOCATION.
        """

    async def revoke(self, network_id: str, target: Reference) -> None:
        """Take a message back for everybody: the account's own, or as an administrator of its group
        anybody's. `network_id` is as above.
        """

    async def pin(self, network_id: str, target: Reference, seconds: int) -> None:
        """Pin a message for everybody in its chat, for so long; 0: it is not pinned any more."""

    async def star(self, target: Reference, *, starred: bool) -> None:
        """Star a message on the account's devices, or take the star away."""

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        """Delete a message on the account's own devices."""

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        """Tell one person that their messages of one chat were read, or played."""

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        """Show in a chat what the account does."""


@dataclass(frozen=True, slots=True)
class NumberStatus:
    """Whether a number is on the network, and who has it."""

    phone: str
    registered: bool
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class BlockedPerson:
    """Somebody whom the account has blocked, by an address and all that the network tells of them."""

    address: str
    identity: Identity


class ContactActions(Protocol):
    """Acts about people."""

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        """Which numbers are on the network, in their order."""

    async def set_blocked(self, person: str, *, blocked: bool) -> None:
        """Block a person, or block them no more."""

    async def list_blocked(self) -> Sequence[BlockedPerson]:
        """Everybody whom the account has blocked, on whichever device, in no order."""


class Acting(MessageActions, ContactActions, Protocol):
    """A link of a driver that could do everything; who has one calls only what its driver declares."""
