"""What one account is told of a person is not what another of the tenant may know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from mesh_core.ids import new_uuid
from mesh_core.kept.answers import Kept
from mesh_session_node.calls.contacts.contact_service import ContactService
from mesh_session_node.context.people import People
from mesh_session_node.drivers.interface.content import Identity
from sessionmesh.v1 import contact_pb2 as pb

HIDDEN = "hidden:77"
TENANT = new_uuid()


class MemoryAnswers:
    """Stands for `KeptAnswers`."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Kept, str], bytes] = {}

    async def known(self, whose: Kept, names: Sequence[str]) -> Mapping[str, bytes]:
        return {name: self.kept[whose, name] for name in names if (whose, name) in self.kept}

    async def keep(self, whose: Kept, answers: Mapping[str, bytes]) -> None:
        self.kept |= {(whose, name): answer for name, answer in answers.items()}


class Calls:
    """Stands for `AccountCalls`: accounts, and what the network tells each of who is behind an address."""

    def __init__(self, **told: Identity) -> None:
        self.asked: list[str] = []
        self._told = told
        self._sessions = {name: self._session(name) for name in told}

    def _session(self, name: str) -> Any:
        ref = SimpleNamespace(uuid=new_uuid(), tenant=TENANT)
        driver = SimpleNamespace(name="memory")
        return SimpleNamespace(id=name, context=SimpleNamespace(ref=ref, driver=driver, people=People()))

    async def session(self, account_id: str, _context: object) -> Any:
        return self._sessions[account_id]

    async def act(self, session: Any, *_how: object) -> list[Identity]:
        self.asked.append(session.id)
        return [self._told[session.id]]


async def test_each_account_is_answered_with_what_it_may_know() -> None:
    friend, stranger = Identity(phone="+4915100000009", hidden_id="77"), Identity(hidden_id="77")
    calls: Any = Calls(friend=friend, stranger=stranger)
    kept: Any = MemoryAnswers()
    nothing: Any = None
    service = ContactService(calls, kept, nothing, nothing, nothing)

    async def phone(account: str) -> str:
        request = pb.ResolveIdentitiesRequest(account_id=account, addresses=[HIDDEN])
        answer = await service.ResolveIdentities(request, nothing)
        return answer.identities[0].person.phone

    assert [await phone(who) for who in ("friend", "stranger", "friend", "stranger")] == [
        "+4915100000009",
        "",
        "+4915100000009",
        "",
    ]
    assert calls.asked == ["friend", "stranger"]
