"""What networks tell of people, stored with the contacts that they are, with events for what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mesh_core.kept.answers import Kept, KeptAnswers
from mesh_session_node.context.address_book import AddressBook, Found, changed, deleted
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.content import names_of
from mesh_session_node.journal import Row
from mesh_session_node.store.pictures import KEPT_AS, picture_name
from sessionmesh.v1.contact_pb2 import Contact


class PeopleNotices:
    """Implements `NoticeTaker`; one for all accounts. Somebody who is no contact becomes one when they are
    saved or blocked, and for nothing else: what strangers show is not kept.
    """

    def __init__(self, book: AddressBook, kept: KeptAnswers) -> None:
        self._book = book
        self._kept = kept

    def turn(self, session: SessionContext, _notice: PersonChanged) -> asyncio.Lock:
        return self._book.turn(session)

    async def take(self, session: SessionContext, notice: PersonChanged) -> Sequence[Row]:
        session.people.learn(notice.person, notice.identity, notice.push_name or "")
        if notice.picture_id is not None:
            await self._forget_picture(session, notice.person)
        found = await self._book.find(session, notice.person)
        if found is None:
            if not (notice.saved or notice.blocked):
                return ()
            found = Found(notice.person, Contact())
        if notice.saved is False:
            return deleted(session, found, notice.time) if found.contact.full_name else ()
        return changed(session, found, lambda contact: _change(contact, notice), notice.time)[1]

    async def _forget_picture(self, session: SessionContext, person: str) -> None:
        names = {person, *names_of(session.people.find(person))}
        kept = [
            picture_name(session.ref.uuid, name, preview=preview)
            for name in sorted(names)
            for preview in (False, True)
        ]
        await self._kept.forget(Kept(session.ref.tenant, session.driver.name, KEPT_AS), kept)


def _change(contact: Contact, notice: PersonChanged) -> None:
    if notice.saved:
        contact.full_name, contact.first_name = notice.full_name, notice.first_name
    for field in ("push_name", "about", "picture_id", "blocked"):
        if (value := getattr(notice, field)) is not None:
            setattr(contact, field, value)
