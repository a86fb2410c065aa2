"""What every act at a network passes before it is reached, and what callers are told where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method
from mesh_core.errors import AlreadyExists, MeshError, NotOwner
from mesh_session_node.calls.account_call import AccountCalls
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.content import Identity, Reference
from mesh_session_node.drivers.interface.outcomes import End, Refusal, Refused
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.link import MemoryLink
from mesh_session_node.journal import Action, PersonIdentity, Row
from sessionmesh.v1 import message_pb2 as pb
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import turn

MESSAGE = Reference("M1", "phone:+4915112345678")


class Owned:
    """Stands for `AccountLookup`, of a node that has every account, or none any more."""

    def __init__(self) -> None:
        self.lost = False

    def check_owner(self, shard: int) -> None:
        if self.lost:
            raise self.not_owner(shard)

    def not_owner(self, shard: int) -> NotOwner:
        return NotOwner(shard=shard)


@pytest.fixture
async def account() -> OneAccount:
    return OneAccount()


@pytest.fixture
def lookup() -> Owned:
    return Owned()


async def star(account: OneAccount, lookup: Owned) -> None:
    calls = AccountCalls(cast("Any", lookup), MagicMock())
    await calls.act(account.session, Capability.STAR, _star, about="M1")


async def _star(link: Acting) -> None:
    await link.star(MESSAGE, starred=True)


async def reason(account: OneAccount, lookup: Owned) -> str:
    with pytest.raises(MeshError) as error:
        await star(account, lookup)
    return error.value.reason


async def connected(account: OneAccount) -> MemoryLink:
    await account.connected()
    return account.driver.link


async def test_an_act_reaches_the_network(account: OneAccount, lookup: Owned) -> None:
    link = await connected(account)
    await star(account, lookup)
    assert [act.name for act in link.acts] == ["star"]


async def test_what_a_driver_does_not_declare_is_not_reached(
    account: OneAccount, lookup: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await connected(account)
    monkeypatch.setattr(MemoryDriver, "capabilities", frozenset(Capability) - {Capability.STAR})
    assert await reason(account, lookup) == "UNSUPPORTED_BY_NETWORK"
    assert link.acts == []


async def test_who_lost_the_account_does_nothing_for_it(account: OneAccount, lookup: Owned) -> None:
    link = await connected(account)
    lookup.lost = True
    assert await reason(account, lookup) == "NOT_OWNER"
    lookup.lost, account.host.permits = False, False
    assert await reason(account, lookup) == "NOT_OWNER"
    assert link.acts == []


async def test_an_act_needs_a_pairing_and_a_connection(account: OneAccount, lookup: Owned) -> None:
    assert await reason(account, lookup) == "NOT_PAIRED"
    link = await connected(account)
    link.end(End.LOST)
    assert await reason(account, lookup) == "NOT_CONNECTED"


async def test_what_is_learnt_of_people_while_rows_are_stored_is_stored_later(
    account: OneAccount, lookup: Owned
) -> None:
    await connected(account)
    people = account.session.context.people
    people.learn("phone:+491", Identity(phone="+491", hidden_id="1"))
    calls = AccountCalls(cast("Any", lookup), MagicMock())

    storing = asyncio.create_task(calls.write(account.session))
    await turn()
    people.learn("phone:+492", Identity(phone="+492", hidden_id="2"))
    await account.journal.commit()
    await storing

    assert [row.hidden_id for row in account.stored(PersonIdentity)] == ["1"]
    assert [one.hidden_id for one in people.news] == ["2"]


async def test_what_the_network_refuses_is_its_error(account: OneAccount, lookup: Owned) -> None:
    link = await connected(account)
    link.refusal = Refused(Refusal.TOO_LATE)
    assert await reason(account, lookup) == "TOO_LATE"


async def test_an_act_that_nobody_answered_may_be_done_or_not(account: OneAccount, lookup: Owned) -> None:
    link = await connected(account)
    link.star = _unanswered  # type: ignore[method-assign, assignment]
    assert await reason(account, lookup) == "BACKEND_UNAVAILABLE"


async def _unanswered(_target: Reference, *, starred: bool) -> None:
    raise TimeoutError


# --- once per request id


class NoRequests:
    """Stands for `RequestStore`: nothing was asked before."""

    async def answered(self, _account: UUID, _method: int, _request_id: str) -> None:
        return None


async def test_a_request_that_comes_twice_at_once_acts_once(account: OneAccount, lookup: Owned) -> None:
    calls = AccountCalls(cast("Any", lookup), cast("Any", NoRequests()))
    may_go_on, acts = asyncio.Event(), []

    async def act() -> tuple[pb.RevokeMessageResponse, Sequence[Row]]:
        acts.append(1)
        await may_go_on.wait()
        return pb.RevokeMessageResponse(message=pb.Message(id="M1")), ()

    def ask(**fields: Any) -> asyncio.Task[pb.RevokeMessageResponse]:
        request = pb.RevokeMessageRequest(request_id="one", **fields)
        answer = pb.RevokeMessageResponse
        return asyncio.create_task(
            calls.answered(account.session, Method.REVOKE_MESSAGE, request, answer, act)
        )

    asked = [ask(), ask()]
    await turn()
    other = ask(account_id="other")
    await turn()
    assert other.done()
    assert isinstance(other.exception(), AlreadyExists)
    may_go_on.set()
    await turn()
    await account.journal.commit()
    answers = await asyncio.gather(*asked)
    assert answers[0] == answers[1]
    assert len(acts) == 1
    assert [row.answer for row in account.stored(Action)] == [answers[0].SerializeToString()]


async def test_an_act_goes_on_when_its_caller_gives_up(account: OneAccount, lookup: Owned) -> None:
    calls = AccountCalls(cast("Any", lookup), cast("Any", NoRequests()))
    may_go_on = asyncio.Event()

    async def act() -> tuple[pb.RevokeMessageResponse, Sequence[Row]]:
        await may_go_on.wait()
        return pb.RevokeMessageResponse(), ()

    request, answer = pb.RevokeMessageRequest(request_id="one"), pb.RevokeMessageResponse
    asked = asyncio.create_task(calls.answered(account.session, Method.REVOKE_MESSAGE, request, answer, act))
    await turn()
    asked.cancel()
    await turn()
    may_go_on.set()
    await turn()
    await account.journal.commit()
    assert account.stored(Action)
