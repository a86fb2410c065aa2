"""Who the people are that an account has to do with, under each of their names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.drivers.interface.content import Identity, describe, is_person, names_of, person_of
from mesh_session_node.journal import PersonIdentity
from sessionmesh.v1.common_pb2 import Person

MAX_NAMES = 512
"""Names (addresses) of one account's people that are kept in memory, those that were told last."""


class WithRecipient(Protocol):
    """A message of the API that says whom something went to."""

    @property
    def recipient(self) -> Person: ...


class StoredPeople(Protocol):
    """Where identities are stored."""

    async def identities(self, account: UUID, addresses: Sequence[str]) -> list[Record]:
        """Who has one of these names, the latest first: rows with the names and the display name."""


class _Known:
    """One person. `recalled`: with all that is stored of them."""

    __slots__ = ("person", "recalled")

    def __init__(self, person: Person, *, recalled: bool) -> None:
        self.person = person
        self.recalled = recalled


class People:
    """What the network told of people beside their addresses, found by each of their names: a number and the
    hidden id that stands for it are one person.

    What is learnt of who belongs together is `news`, to be stored in the next batch of the account, and
    recalled from there when it is no longer in memory.
    """

    __slots__ = ("_by_name", "_news")

    def __init__(self) -> None:
        self._by_name: dict[str, _Known] | None = None  # most accounts wait for somebody to write
        self._news: dict[str, PersonIdentity] | None = None

    def learn(self, address: str, identity: Identity | None, display_name: str = "") -> Person:
        """Remember who is behind a person's address; the person, with all that is known."""
        told = person_of(address, identity, display_name)
        if not is_person(address):
            return person_of(address)
        if identity is None and not display_name:
            return self.find(address)
        told.ClearField("address")
        before = self._find_all(told)
        merged, recalled = Person(), False
        for known in before:
            if _may_be_one(known.person, told):
                merged.MergeFrom(known.person)
                recalled |= known.recalled
                self._forget(known)
            else:  # what they have in common is this one's now, such as a number that was given away
                _take_away(known.person, told)
        merged.MergeFrom(told)
        self._keep(_Known(merged, recalled=recalled))
        self._trim()
        if len(names_of(merged)) > 1 and not any(known.person == merged for known in before):
            self._tell(merged)
        return _at(address, merged)

    def find(self, address: str) -> Person:
        """The person behind an address, with all that is known."""
        known = None if self._by_name is None else self._by_name.get(address)
        return person_of(address) if known is None else _at(address, known.person)

    def show(self, where: WithRecipient, chat: str) -> None:
        """Fill in whom a message to this chat went to: somebody in a chat of two, else nobody."""
        if not is_person(chat):
            return
        recipient = where.recipient
        if (known := None if self._by_name is None else self._by_name.get(chat)) is not None:
            recipient.CopyFrom(known.person)
        describe(recipient, chat)

    def to_recall(self, addresses: Iterable[str]) -> list[str]:
        """Those of whom more may be stored than is in memory."""
        by_name = self._by_name or {}
        return [
            address
            for address in {*addresses}
            if is_person(address)
            and (
                (known := by_name.get(address)) is None
                or not (known.recalled or len(names_of(known.person)) > 1)
            )
        ]

    async def recall(self, stored: StoredPeople, account: UUID, addresses: Iterable[str]) -> None:
        """Read what is stored of people, where it is not in memory. Raises as the database does."""
        wanted = self.to_recall(addresses)
        if not wanted:
            return
        self._trim()  # not afterwards: what was asked for is there when this returns
        for found in await stored.identities(account, wanted):
            older = Person(**found)
            for known in self._find_all(older):
                if _may_be_one(known.person, older):
                    older.MergeFrom(known.person)
                    self._forget(known)
                else:
                    _take_away(older, known.person)
            self._keep(_Known(older, recalled=True))
        for address in wanted:
            remembered = None if self._by_name is None else self._by_name.get(address)
            if remembered is not None:
                remembered.recalled = True
            else:
                nobody = person_of(address)
                nobody.ClearField("address")
                self._keep(_Known(nobody, recalled=True))

    def forget(self, addresses: Iterable[str]) -> None:
        """Somebody is erased."""
        for address in addresses:
            if self._by_name is not None and (known := self._by_name.get(address)) is not None:
                self._forget(known)
        if self._news:
            gone = {*addresses}
            self._news = {one: told for one, told in self._news.items() if gone.isdisjoint(_names_told(told))}

    @property
    def news(self) -> Sequence[PersonIdentity]:
        """What is to be stored."""
        return [*self._news.values()] if self._news else ()

    def stored(self) -> None:
        """The news are handed to the journal."""
        self._news = None

    def _tell(self, person: Person) -> None:
        told = PersonIdentity(
            names_of(person)[0],
            person.phone,
            person.user_id,
            person.hidden_id,
            person.username,
            person.display_name,
            time.time_ns() // 1000,
        )
        if self._news is None:
            self._news = {}
        if len(self._news) < MAX_NAMES:  # nothing can be stored for long: the network tells again
            self._news[told.person] = told

    def _find_all(self, person: Person) -> list[_Known]:
        by_name = self._by_name or {}
        return [*dict.fromkeys(by_name[name] for name in names_of(person) if name in by_name)]

    def _forget(self, known: _Known) -> None:
        for name in names_of(known.person):
            if self._by_name is not None and self._by_name.get(name) is known:
                del self._by_name[name]

    def _keep(self, known: _Known) -> None:
        if self._by_name is None:
            self._by_name = {}
        for name in names_of(known.person):
            self._by_name.pop(name, None)
            self._by_name[name] = known

    def _trim(self) -> None:
        while self._by_name is not None and len(self._by_name) > MAX_NAMES:
            del self._by_name[next(iter(self._by_name))]


def _names_told(told: PersonIdentity) -> Iterable[str]:
    person = Person(phone=told.phone, user_id=told.user_id, hidden_id=told.hidden_id, username=told.username)
    return (told.person, *names_of(person))


def _at(address: str, person: Person) -> Person:
    shown = Person()
    shown.CopyFrom(person)
    shown.address = address
    return shown


def _may_be_one(one: Person, other: Person) -> bool:
    """Whether two that have a name in common are one: a number may be another's by now, a lasting id not."""
    for name in ("user_id", "hidden_id"):
        if getattr(one, name) and getattr(other, name):
            return bool(getattr(one, name) == getattr(other, name))
    return True


def _take_away(person: Person, other: Person) -> None:
    for name in ("user_id", "hidden_id", "phone", "username"):
        if getattr(person, name) == getattr(other, name):
            person.ClearField(name)
