"""ContactService: which numbers are on the network, and who is blocked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import addresses
from mesh_core.errors import InvalidField
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context
from mesh_session_node.context.metrics import NUMBERS_CHECKED
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.contact_actions import NumberStatus
from mesh_session_node.drivers.interface.content import person_of
from mesh_session_node.store.number_checks import Checked, NumberChecks
from sessionmesh.v1 import contact_pb2 as pb
from sessionmesh.v1 import contact_pb2_grpc
from sessionmesh.v1.common_pb2 import Person

MAX_NUMBERS = 100
"""Of one CheckNumbers."""


class ContactService(contact_pb2_grpc.ContactServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(self, calls: AccountCalls, checks: NumberChecks, pager: Pager) -> None:
        self._calls = calls
        self._checks = checks
        self._pager = pager

    async def CheckNumbers(
        self, request: pb.CheckNumbersRequest, context: Context
    ) -> pb.CheckNumbersResponse:
        session = await self._calls.session(request.account_id, context)
        phones = _phones(request.phones)
        numbers = [*dict.fromkeys(phones)]
        whose = Checked(session.context.ref.tenant, session.context.driver.name)
        checks = {**await self._checks.known(whose, numbers)}
        unknown = [number for number in numbers if number not in checks]
        NUMBERS_CHECKED.labels("cache").inc(len(checks))
        if unknown:
            asked = await self._asked(session, unknown)
            NUMBERS_CHECKED.labels("network").inc(len(asked))
            await self._checks.keep(whose, asked)
            checks |= asked
        response = pb.CheckNumbersResponse()
        for given, phone in zip(request.phones, phones, strict=True):
            response.checks.add().CopyFrom(checks[phone])
            response.checks[-1].phone = given
        return response

    async def SetBlocked(self, request: pb.SetBlockedRequest, context: Context) -> pb.SetBlockedResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        await self._calls.act(
            session,
            Capability.BLOCK,
            lambda link: link.set_blocked(person, blocked=request.blocked),
            about=person,
        )
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
