"""Acts about people: who is on the network and what they show, the account's address book, and whom it has
blocked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh_session_node.drivers.interface.content import Identity
from sessionmesh.v1.profile_pb2 import BusinessProfile

MAX_PICTURE_BYTES = 2 * 1024 * 1024
"""Of a picture of a person; a larger one is none."""


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


@dataclass(frozen=True, slots=True)
class PersonShown:
    """What somebody shows to the account; "" for what they do not show. `verified_name` is a company's, as
    the network has verified it.
    """

    identity: Identity
    push_name: str = ""
    about: str = ""
    picture_id: str = ""
    verified_name: str = ""
    business: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of somebody: the network's id, which changes with the picture, and its bytes, at most
    `MAX_PICTURE_BYTES`; no bytes: it is the one that was known.
    """

    picture_id: str
    data: bytes


class ContactActions(Protocol):
    """Acts about people. What they name nobody by raises `Refused` UNKNOWN_PERSON."""

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        """Which numbers are on the network, in their order."""

    async def set_blocked(self, person: str, *, blocked: bool) -> None:
        """Block a person, or block them no more."""

    async def list_blocked(self) -> Sequence[BlockedPerson]:
        """Everybody whom the account has blocked, on whichever device, in no order."""

    async def look_up_person(self, person: str) -> PersonShown:
        """What a person shows to the account now."""

    async def resolve_people(self, people: Sequence[str]) -> Sequence[Identity | None]:
        """By what else people are known, in their order; None: nobody."""

    async def save_contact(self, person: str, full_name: str, first_name: str) -> None:
        """Save a person in the account's address book, or change the names there."""

    async def delete_contact(self, person: str) -> None:
        """Take a person out of the account's address book; nothing where they are not in it."""

    async def picture(self, person: str, *, preview: bool, known: str) -> Picture | None:
        """A person's picture, small with `preview` where the network has a small one; None: there is none, or
        it is not shown to the account. `known` is the id of one whose bytes are not wanted again.
        """

    async def business_profile(self, person: str) -> BusinessProfile | None:
        """What a company shows of itself; None: it is none. Also the account's own."""
