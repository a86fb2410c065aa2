"""Whom accounts know: contacts, as records of the account, changed one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.locks import Locks
from mesh_session_node.context.people import StoredPeople
from mesh_session_node.drivers.interface.content import names_of
from mesh_session_node.journal import AccountRecord, Row
from mesh_session_node.store.records import RecordStore, StoredRecord
from sessionmesh.v1.contact_pb2 import Contact

UPDATED, DELETED = "contact.updated", "contact.deleted"


@dataclass(frozen=True, slots=True)
class Found:
    """A contact as it is stored: under this address, which may be another one of the same person."""

    address: str
    contact: Contact


class AddressBook:
    """Finds contacts, and says which rows change one; for all accounts."""

    def __init__(self, records: RecordStore, people: StoredPeople) -> None:
        self._records = records
        self._people = people
        self._turns = Locks[UUID]()

    def turn(self, session: SessionContext) -> asyncio.Lock:
        """Held by who reads a contact to change it, until the change is stored."""
        return self._turns.of(session.ref.uuid)

    async def find(self, session: SessionContext, address: str) -> Found | None:
        """The contact with this address, or with another one of the same person; None: there is none. Raises
        as the database does.
        """
        await session.people.recall(self._people, session.ref.uuid, [address])
        names = {address, *names_of(session.people.find(address))}
        stored = await self._records.of_keys(session.ref.uuid, RecordKind.CONTACT, sorted(names))
        if not stored:
            return None
        record = next((one for one in stored if one.key == address), stored[0])
        return Found(record.key, contact_of(session, record))

    async def page(self, session: SessionContext, after: str, limit: int) -> list[StoredRecord]:
        """The contacts behind an address, in the order of their addresses, for `contact_of`."""
        return await self._records.page(session.ref.uuid, RecordKind.CONTACT, after, limit)

    async def change(
        self,
        session: SessionContext,
        address: str,
        change: Callable[[Contact], None],
        micros: int,
        *,
        only_known: bool = False,
    ) -> tuple[Contact, Sequence[Row]]:
        """A contact with a change, and the rows that store it and tell of it: none where nothing changes.
        `only_known`: somebody who is no contact stays none.
        """
        found = await self.find(session, address)
        if found is None:
            if only_known:
                return Contact(), ()
            found = Found(address, Contact())
        return changed(session, found, change, micros)


def changed(
    session: SessionContext, found: Found, change: Callable[[Contact], None], micros: int
) -> tuple[Contact, Sequence[Row]]:
    """As `AddressBook.change`, of a contact that is found."""
    before = _stored(found.contact)
    after = Contact()
    after.ParseFromString(before)
    change(after)
    value = _stored(after)
    shown = contact_of(session, StoredRecord("", value, micros, found.address))
    if value == before:
        return shown, ()
    rows: list[Row] = [AccountRecord(RecordKind.CONTACT, found.address, "", value, micros)]
    told = Contact()
    told.CopyFrom(shown)
    told.ClearField("fetch_time")
    known = Contact()
    known.ParseFromString(before)
    known.ClearField("fetch_time")
    if _stored(told) != _stored(known):  # that the network was asked is no news
        rows.append(session.events.contact(UPDATED, shown, micros))
    return shown, rows


def deleted(session: SessionContext, found: Found, micros: int) -> Sequence[Row]:
    """The rows with which somebody is no contact any more; who is blocked is still known for that."""
    value = Contact(blocked=True).SerializeToString() if found.contact.blocked else None
    left = contact_of(session, StoredRecord("", value or b"", micros, found.address))
    return (
        AccountRecord(RecordKind.CONTACT, found.address, "", value, micros),
        session.events.contact(DELETED, left, micros),
    )


def contact_of(session: SessionContext, record: StoredRecord) -> Contact:
    """A contact as it is shown."""
    contact = Contact.FromString(record.value)
    contact.person.CopyFrom(session.people.find(record.key))
    contact.person.display_name = contact.push_name or contact.person.display_name
    contact.push_name = contact.person.display_name
    contact.etag = blake2b(record.key.encode() + record.value, digest_size=12).hexdigest()
    return contact


def _stored(contact: Contact) -> bytes:
    bare = Contact()
    bare.CopyFrom(contact)
    bare.ClearField("person")
    bare.ClearField("etag")
    return bare.SerializeToString(deterministic=True)
