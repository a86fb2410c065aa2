"""Who the people are that an account has to do with, as far as the network has told lately."""

from __future__ import annotations

from typing import Protocol

from mesh_session_node.drivers.interface.content import Identity, is_person, person_of
from sessionmesh.v1.common_pb2 import Person

MAX_REMEMBERED = 100
"""People of one account whose identities are remembered, those that were told last."""


class WithRecipient(Protocol):
    """A message of the API that says whom something went to."""

    @property
    def recipient(self) -> Person: ...


class People:
    """What the network told of people beside their addresses. It tells again when it is asked, or when the
    account logs in again, so nothing is stored.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Person] | None = None  # most accounts wait for somebody to write

    def learn(self, address: str, identity: Identity | None, display_name: str = "") -> Person:
        """Remember who is behind a person's address; the person, with all that is known."""
        if not is_person(address):
            return person_of(address)
        known = None if self._known is None else self._known.pop(address, None)
        person = person_of(address, identity, display_name)
        if known is not None:
            known.MergeFrom(person)
            person = known
        elif identity is None and not display_name:
            return person
        if self._known is None:
            self._known = {}
        elif len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[address] = person
        return person

    def find(self, address: str) -> Person:
        """The person behind an address, with all that is known."""
        known = None if self._known is None else self._known.get(address)
        return person_of(address) if known is None else known

    def show(self, where: WithRecipient, chat: str) -> None:
        """Fill in whom a message to this chat went to: somebody in a chat of two, else nobody."""
        if is_person(chat):
            where.recipient.CopyFrom(self.find(chat))
