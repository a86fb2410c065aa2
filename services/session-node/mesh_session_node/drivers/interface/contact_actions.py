"""Acts about people: who is on the network, and whom the account has blocked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh_session_node.drivers.interface.content import Identity


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
