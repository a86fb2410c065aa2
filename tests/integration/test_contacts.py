"""Numbers that are checked and people who are blocked, through a real node with a Redis."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.accounts.account import Account as NetworkAccount
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import contact_pb2, contact_pb2_grpc
from tests.support.message_acts import received, sent
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA, BOB = "+4915112345601", "+4915112345602"
NOBODY = "+4915112345603"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage, redis_server: str) -> NodeProcess:
    """A session-node that has a Redis."""
    stage.network.directory.unregistered.add(NOBODY)
    return await stage.start_node(MESH_REDIS_URL=redis_server)


async def ask(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> Any:
    request = getattr(contact_pb2, f"{method}Request")(account_id=account.id, **fields)
    stub = contact_pb2_grpc.ContactServiceStub(node.channel)
    return await getattr(stub, method)(request, metadata=stage.metadata, timeout=20)


async def refused(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> list[str]:
    """Code, reason and, where there is one, field of the error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(stage, node, account, method, **fields)
    error = from_rpc_error(caught.value)
    named = [caught.value.code().name, error.reason, getattr(error, "field", "")]
    return [part for part in named if part]


async def blocked_by(stage: Stage, node: NodeProcess, account: Account) -> list[str]:
    return [one.address for one in (await ask(stage, node, account, "ListBlocked")).people]


# --- numbers


@pytest.mark.read_back("CheckNumbers")
async def test_numbers_are_answered_as_they_were_asked(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    asked = [f"phone:{ADA}", NOBODY, ADA]
    checks = (await ask(stage, node, account, "CheckNumbers", phones=asked)).checks

    assert [(one.phone, one.registered) for one in checks] == [
        (f"phone:{ADA}", True),
        (NOBODY, False),
        (ADA, True),
    ]
    assert checks[0].person == checks[2].person
    assert (checks[0].person.address, checks[0].person.phone) == (f"phone:{ADA}", ADA)
    assert checks[0].person.user_id == ADA[1:]
    assert checks[0].person.hidden_id
    assert not checks[1].HasField("person")
    assert checks[1].check_time.seconds


async def test_the_network_is_asked_once_for_what_it_said_to_any_account_of_the_tenant(
    stage: Stage, node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    answer = stage.network.queries.answer

    def heard(account: NetworkAccount, query: wire.Query) -> wire.Answer:
        if query.HasField("number_check"):
            asked.append([*query.number_check.phones])
        return answer(account, query)

    monkeypatch.setattr(stage.network.queries, "answer", heard)
    account, other = await stage.paired(node), await stage.paired(node)
    new = [f"+49151777{number:05}" for number in range(3)]

    first = await ask(stage, node, account, "CheckNumbers", phones=[new[0], new[1], new[0]])
    second = await ask(stage, node, other, "CheckNumbers", phones=new)
    third = await ask(stage, node, account, "CheckNumbers", phones=new)

    assert asked == [new[:2], new[2:]]
    assert second.checks[:2] == first.checks[:2]
    assert third == second


async def test_numbers_that_cannot_be_checked_say_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    unpaired = await stage.create_account()

    async def said(about: Account, *phones: str) -> list[str]:
        return await refused(stage, node, about, "CheckNumbers", phones=phones)

    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]
    assert await said(account) == [*invalid, "phones"]
    assert await said(account, *[ADA] * 101) == [*invalid, "phones"]
    assert await said(account, ADA, "4915112345601") == [*invalid, "phones[1]"]
    assert await said(account, "hidden:1") == [*invalid, "phones[0]"]
    assert await said(unpaired, "+4915112345699") == ["FAILED_PRECONDITION", "NOT_PAIRED"]
    assert await said(foreign, ADA) == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]


# --- blocking


@pytest.mark.read_back("SetBlocked", "ListBlocked")
async def test_who_is_blocked_is_listed_and_cannot_write_until_unblocked(
    stage: Stage, node: NodeProcess
) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    person = f"phone:{other.phone}"

    await ask(stage, node, account, "SetBlocked", address=person, blocked=True)

    assert await blocked_by(stage, node, account) == [person]
    assert await blocked_by(stage, node, other) == []
    await sent(stage, node, other, account.phone, "unheard")
    await ask(stage, node, account, "SetBlocked", address=person)
    assert await blocked_by(stage, node, account) == []
    await sent(stage, node, other, account.phone, "heard")
    came = (await received(stage, account, "message.received")).message.message
    assert came.content.text.body == "heard"
    assert len(stage.records(Kind.INBOUND, account)) == 1


async def test_blocked_people_come_in_pages(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    for phone in (BOB, ADA):
        await ask(stage, node, account, "SetBlocked", address=phone, blocked=True)

    first = await ask(stage, node, account, "ListBlocked", page_size=1)
    second = await ask(stage, node, account, "ListBlocked", page_size=1, page_token=first.next_page_token)

    assert [one.address for one in (*first.people, *second.people)] == [f"phone:{ADA}", f"phone:{BOB}"]
    assert first.people[0].hidden_id
    assert second.next_page_token == ""


async def test_people_who_cannot_be_blocked_say_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    unpaired = await stage.create_account()

    async def said(about: Account, address: str) -> list[str]:
        return await refused(stage, node, about, "SetBlocked", address=address, blocked=True)

    assert await said(account, "group:1") == ["INVALID_ARGUMENT", "INVALID_FIELD", "address"]
    assert await said(account, NOBODY) == ["FAILED_PRECONDITION", "UNKNOWN_PERSON"]
    assert await said(account, account.phone) == ["FAILED_PRECONDITION", "REFUSED_BY_NETWORK"]
    assert await said(unpaired, ADA) == ["FAILED_PRECONDITION", "NOT_PAIRED"]
    assert await said(foreign, ADA) == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    listed = await refused(stage, node, foreign, "ListBlocked")
    assert listed == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    size = await refused(stage, node, account, "ListBlocked", page_size=1001)
    assert size == ["INVALID_ARGUMENT", "INVALID_FIELD", "page_size"]
    assert await blocked_by(stage, node, account) == []
