"""ContactService: which numbers are on the network, by what people are known, and who is blocked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from mesh_core import addresses
from mesh_core.errors import InvalidField, NotFound
from mesh_core.kept.answers import Kept, KeptAnswers
from mesh_core.metrics.caches import hits, misses
from mesh_core.paging import Pager
from mesh_core.rpc.server.status import details_of
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.calls.contacts.contact_book import ContactBook
from mesh_session_node.calls.contacts.contact_shown import ContactShown
from mesh_session_node.context.address_book import AddressBook
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.contact_actions import NumberStatus
from mesh_session_node.drivers.interface.content import Identity, person_of
from mesh_session_node.inbound.fitting import fit_identity
from mesh_session_node.store.pictures import Pictures
from sessionmesh.v1 import contact_pb2 as pb
from sessionmesh.v1 import contact_pb2_grpc
from sessionmesh.v1.common_pb2 import Person

MAX_NUMBERS = 100
"""Of one CheckNumbers."""
MAX_RESOLVED = 100
"""Addresses of one ResolveIdentities."""


class ContactService(ContactBook, ContactShown, contact_pb2_grpc.ContactServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(
        self, calls: AccountCalls, kept: KeptAnswers, book: AddressBook, pictures: Pictures, pager: Pager
    ) -> None:
        self._calls = calls
        self._kept = kept
        self._book = book
        self._pictures = pictures
        self._pager = pager

    async def CheckNumbers(
        self, request: pb.CheckNumbersRequest, context: Context
    ) -> pb.CheckNumbersResponse:
        session = await self._calls.session(request.account_id, context)
        phones = _phones(request.phones)
        numbers = [*dict.fromkeys(phones)]
        whose = _kept(session, "numbers")
        known = await self._kept.known(whose, numbers)
        checks = {number: pb.NumberCheck.FromString(check) for number, check in known.items()}
        unknown = [number for number in numbers if number not in checks]
        hits("numbers").inc(len(checks))
        if unknown:
            asked = await self._asked(session, unknown)
            misses("numbers").inc(len(asked))
            await self._kept.keep(whose, {phone: one.SerializeToString() for phone, one in asked.items()})
            checks |= asked
        response = pb.CheckNumbersResponse()
        for given, phone in zip(request.phones, phones, strict=True):
            response.checks.add().CopyFrom(checks[phone])
            response.checks[-1].phone = given
        return response

    async def ResolveIdentities(
        self, request: pb.ResolveIdentitiesRequest, context: Context
    ) -> pb.ResolveIdentitiesResponse:
        session = await self._calls.session(request.account_id, context)
        people = [addresses.person(f"addresses[{at}]", one) for at, one in enumerate(request.addresses)]
        if not 1 <= len(people) <= MAX_RESOLVED:
            raise InvalidField("addresses", f"must have 1 to {MAX_RESOLVED} entries")
        wanted, whose = [*dict.fromkeys(people)], _kept(session, "people")
        names = {one: f"{session.context.ref.uuid.hex}/{one}" for one in wanted}  # not all know as much
        known = await self._kept.known(whose, [*names.values()])
        resolved = {
            one: pb.ResolvedIdentity.FromString(known[name]) for one, name in names.items() if name in known
        }
        unknown = [one for one in wanted if one not in resolved]
        hits("people").inc(len(resolved))
        if unknown:
            asked = await self._resolved(session, unknown)
            misses("people").inc(len(asked))
            answers = {names[one]: said.SerializeToString() for one, said in asked.items()}
            await self._kept.keep(whose, answers)
            resolved |= asked
        response = pb.ResolveIdentitiesResponse()
        for given, person in zip(request.addresses, people, strict=True):
            response.identities.add().CopyFrom(resolved[person])
            response.identities[-1].address = given
        return response

    async def SetBlocked(self, request: pb.SetBlockedRequest, context: Context) -> pb.SetBlockedResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        async with self._book.turn(session.context):
            await self._calls.act(
                session,
                Capability.BLOCK,
                lambda link: link.set_blocked(person, blocked=request.blocked),
                about=person,
            )

            def change(contact: pb.Contact) -> None:
                contact.blocked = request.blocked

            _, rows = await self._book.change(
                session.context, person, change, time.time_ns() // 1000, only_known=not request.blocked
            )
            if rows:
                await in_time(self._calls.write(session, *rows))
        return pb.SetBlockedResponse()

    async def ListBlocked(self, request: pb.ListBlockedRequest, context: Context) -> pb.ListBlockedResponse:
        session = await self._calls.session(request.account_id, context)
        page = self._pager.page(request, session.context.ref.tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        blocked = await self._calls.act(session, Capability.BLOCK, lambda link: link.list_blocked())
        behind = sorted((one for one in blocked if one.address > after), key=lambda one: one.address)

        def shown(address: str) -> Person:
            return person_of(address, identities[address])

        identities = {one.address: one.identity for one in behind}
        people, next_page_token = page.cut(identities, shown, str.encode)
        return pb.ListBlockedResponse(people=people, next_page_token=next_page_token)

    async def _asked(self, session: Session, numbers: Sequence[str]) -> dict[str, pb.NumberCheck]:
        """What the network says of these numbers, all asked at once."""
        answers = await self._calls.act(
            session, Capability.CHECK_NUMBERS, lambda link: link.check_numbers(numbers)
        )
        now = Timestamp()
        now.GetCurrentTime()
        return {answer.phone: _check(answer, now) for answer in answers}

    async def _resolved(self, session: Session, people: Sequence[str]) -> Mapping[str, pb.ResolvedIdentity]:
        """By what these people are known, all asked at once."""
        answers = await self._calls.act(
            session, Capability.RESOLVE_PEOPLE, lambda link: link.resolve_people(people)
        )
        return {
            person: _identity(session, person, identity)
            for person, identity in zip(people, answers, strict=True)
        }


def _kept(session: Session, what: str) -> Kept:
    return Kept(session.context.ref.tenant, session.context.driver.name, what)


def _identity(session: Session, address: str, identity: Identity | None) -> pb.ResolvedIdentity:
    resolved = pb.ResolvedIdentity(address=address)
    if identity is None:
        nobody = details_of(NotFound("person", address))
        resolved.error.CopyFrom(status_pb2.Status.FromString(nobody))
    else:
        resolved.person.CopyFrom(session.context.people.learn(address, fit_identity(identity)))
    return resolved


def _phones(given: Iterable[str]) -> list[str]:
    """The numbers, in E.164."""
    phones = []
    for at, text in enumerate(given):
        kind, _, number = addresses.parse(f"phones[{at}]", text).partition(":")
        if kind != "phone":
            raise InvalidField(f"phones[{at}]", "must be a phone number: phone:+NUMBER or +NUMBER")
        phones.append(number)
    if not 1 <= len(phones) <= MAX_NUMBERS:
        raise InvalidField("phones", f"must have 1 to {MAX_NUMBERS} entries")
    return phones


def _check(answer: NumberStatus, now: Timestamp) -> pb.NumberCheck:
    check = pb.NumberCheck(registered=answer.registered, check_time=now)
    if answer.registered:
        check.person.CopyFrom(person_of(f"phone:{answer.phone}", answer.identity))
    return check
