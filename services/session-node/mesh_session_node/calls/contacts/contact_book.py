"""The calls of ContactService about the account's address book."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from mesh_core import addresses, validation
from mesh_core.errors import NotFound
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.context.address_book import AddressBook, Found, changed, contact_of, deleted
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.contact_actions import PersonShown
from mesh_session_node.drivers.interface.content import is_one_of
from mesh_session_node.inbound.bounds import fit
from mesh_session_node.inbound.fitting import fit_identity
from sessionmesh.v1 import contact_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NAME = 100
"""Characters of names in the address book."""


class ContactBook:
    """Part of `ContactService`."""

    _calls: AccountCalls
    _book: AddressBook
    _pager: Pager

    async def GetContact(self, request: pb.GetContactRequest, context: Context) -> pb.GetContactResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        found = await self._book.find(session.context, person)
        if found is None:
            raise NotFound("contact", person)
        return pb.GetContactResponse(contact=found.contact)

    async def ListContacts(
        self, request: pb.ListContactsRequest, context: Context
    ) -> pb.ListContactsResponse:
        session = await self._calls.session(request.account_id, context)
        tenant = session.context.ref.tenant
        page = self._pager.page(request, tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        async with self._pager.working(tenant) as slices:
            found = await self._book.page(session.context, after, page.fetch)
            contacts, next_page_token = await page.cut_in(
                slices, tenant, found, partial(contact_of, session.context), lambda one: one.key.encode()
            )
        return pb.ListContactsResponse(contacts=contacts, next_page_token=next_page_token)

    async def FetchContact(
        self, request: pb.FetchContactRequest, context: Context
    ) -> pb.FetchContactResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        async with self._book.turn(session.context):
            shown = await self._calls.act(
                session, Capability.LOOK_UP_PERSON, lambda link: link.look_up_person(person), about=person
            )
            blocked = None
            if Capability.BLOCK in session.context.driver.capabilities:
                everybody = await self._calls.act(session, Capability.BLOCK, lambda link: link.list_blocked())
                blocked = any(is_one_of(shown.identity, one.address, one.identity) for one in everybody)
            session.context.people.learn(person, fit_identity(shown.identity))
            contact = await self._change(session, person, lambda one: _show(one, shown, blocked))
        return pb.FetchContactResponse(contact=contact)

    async def SaveContact(self, request: pb.SaveContactRequest, context: Context) -> pb.SaveContactResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        full_name = validation.required_text("full_name", request.full_name, MAX_NAME)
        first_name = validation.text("first_name", request.first_name, MAX_NAME)
        async with self._book.turn(session.context):
            found = await self._book.find(session.context, person)
            validation.check_etag(request.etag, None if found is None else found.contact.etag)
            await self._calls.act(
                session,
                Capability.ADDRESS_BOOK,
                lambda link: link.save_contact(person, full_name, first_name),
                about=person,
            )

            def change(contact: pb.Contact) -> None:
                contact.full_name, contact.first_name = full_name, first_name

            contact = await self._change(session, person, change)
        return pb.SaveContactResponse(contact=contact)

    async def DeleteContact(
        self, request: pb.DeleteContactRequest, context: Context
    ) -> pb.DeleteContactResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        async with self._book.turn(session.context):
            found = await self._book.find(session.context, person)
            validation.check_etag(request.etag, None if found is None else found.contact.etag)
            await self._calls.act(
                session, Capability.ADDRESS_BOOK, lambda link: link.delete_contact(person), about=person
            )
            if found is not None and found.contact.full_name:
                rows = deleted(session.context, found, time.time_ns() // 1000)
                await in_time(self._calls.write(session, *rows))
        return pb.DeleteContactResponse()

    async def _change(
        self, session: Session, person: str, change: Callable[[pb.Contact], None]
    ) -> pb.Contact:
        """Change a contact, whose turn is held, and store it."""
        found = await self._book.find(session.context, person) or Found(person, pb.Contact())
        contact, rows = changed(session.context, found, change, time.time_ns() // 1000)
        if rows:
            await in_time(self._calls.write(session, *rows))
        return contact


def _show(contact: pb.Contact, shown: PersonShown, blocked: bool | None) -> None:
    """What the network has just said of a contact. A name that it does not say is the one known before."""
    told = pb.Contact(
        push_name=shown.push_name or contact.push_name,
        verified_name=shown.verified_name,
        about=shown.about,
        picture_id=shown.picture_id,
        business=shown.business,
        blocked=contact.blocked if blocked is None else blocked,
    )
    told.fetch_time.GetCurrentTime()
    fit(told)
    told.full_name, told.first_name = contact.full_name, contact.first_name
    contact.CopyFrom(told)
