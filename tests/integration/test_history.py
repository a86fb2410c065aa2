"""The past of chats, fetched as jobs from the phones of the simulated network."""

from __future__ import annotations

import secrets
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix, encode, new_uuid, shard_of
from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.service import SimulatorServicer
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import chat_pb2, chat_pb2_grpc, event_pb2, job_pb2, session_pb2
from tests.support.eventually import eventually
from tests.support.message_acts import written_to
from tests.support.node_owners import owner_of
from tests.support.session_node_stage import RECIPIENT, Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICKLY = {"MESH_SESSION_HISTORY_PER_MINUTE": "100000"}
ADA, BOB = f"phone:{RECIPIENT}", "phone:+4915112345602"


@pytest_asyncio.fixture(loop_scope="module")
async def node(stage: Stage) -> NodeProcess:
    """The node that runs: a test before may have killed one."""
    (node,) = await stage.running_nodes(1, **QUICKLY)
    return node


async def sync(stage: Stage, node: NodeProcess, account: Account, **fields: Any) -> Any:
    """The job that is begun."""
    fields = {"request_id": secrets.token_hex(8), **fields}
    request = chat_pb2.SyncHistoryRequest(account_id=account.id, **fields)
    stub = chat_pb2_grpc.ChatServiceStub(node.channel)
    return (await stub.SyncHistory(request, metadata=stage.metadata, timeout=20)).job


async def ended(stage: Stage, job: Any) -> Any:
    """The job's row, once it has ended."""
    uuid = ids.decode(Prefix.JOB, job.id, "job")

    async def row() -> Any:
        return await stage.database.fetchrow("SELECT * FROM job WHERE id = $1 AND end_time IS NOT NULL", uuid)

    return await eventually(row)


async def give_past(stage: Stage, account: Account, messages: int, chat: str = ADA) -> None:
    request = simulator_pb2.GivePhoneHistoryRequest(phone=account.phone, chat=chat, messages=messages)
    await SimulatorServicer(stage.network).GivePhoneHistory(request, None)  # type: ignore[arg-type]  # unused


async def past(stage: Stage, account: Account, chat: str = ADA) -> int:
    """How many messages of a chat's past are stored."""
    count: int = await stage.database.fetchval(
        "SELECT count(*) FROM message WHERE account = $1 AND chat = $2 AND beside = 1", account.uuid, chat
    )
    return count


async def synced(stage: Stage, account: Account) -> list[Any]:
    bodies = [body for kind, body in await stage.events(account) if kind == "history.synced"]
    return [event_pb2.Event.FromString(body).history for body in bodies]


@pytest.mark.read_back("SyncHistory")
async def test_a_chats_past_is_stored_without_an_event_for_each_message(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    came = await written_to(stage, account)
    await give_past(stage, account, 120)

    job = await sync(stage, node, account, chat=ADA)
    assert (job.kind, job.total) == (job_pb2.JOB_KIND_SYNC_HISTORY, 500)
    row = await ended(stage, job)

    assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_SUCCEEDED, 120)
    assert await past(stage, account) == 120
    told = await synced(stage, account)
    assert [(one.message_count, one.exhausted) for one in told] == [(50, False), (50, False), (20, True)]
    assert {(one.job_id, one.chat) for one in told} == {(job.id, ADA)}
    assert told[-1].oldest_message.network_message_id.endswith("-0")
    types = [kind for kind, _ in await stage.events(account)]
    assert types.count("message.received") == 1
    stub = chat_pb2_grpc.ChatServiceStub(node.channel)
    request = chat_pb2.GetChatRequest(account_id=account.id, address=ADA)
    chat = (await stub.GetChat(request, metadata=stage.metadata)).chat
    assert (chat.unread_count, chat.last_message.id) == (1, came.id)


async def test_what_is_stored_already_is_not_stored_again(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await give_past(stage, account, 60)
    first = await sync(stage, node, account, chat=ADA, max_messages=10)
    assert (await ended(stage, first))["done"] == 10

    second = await sync(stage, node, account, chat=ADA, max_messages=10)
    assert (await ended(stage, second))["done"] == 10
    assert await past(stage, account) == 20
    again = await sync(stage, node, account, chat=ADA, before_time={"seconds": 4_000_000_000})
    assert (await ended(stage, again))["done"] == 60
    assert await past(stage, account) == 60


async def test_all_chats_are_fetched_one_after_the_other(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    await stage.send(node, account, recipient=BOB)
    await give_past(stage, account, 30)
    await give_past(stage, account, 20, BOB)

    row = await ended(stage, await sync(stage, node, account))

    assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_SUCCEEDED, 50)
    assert (await past(stage, account), await past(stage, account, BOB)) == (30, 20)


async def test_a_chat_is_not_passed_over_because_somebody_writes_in_it_meanwhile(stage: Stage) -> None:
    (node,) = await stage.running_nodes(1, MESH_SESSION_HISTORY_PER_MINUTE="300")
    account = await stage.paired(node)
    chats = sorted([ADA, BOB])
    for chat in chats:
        await stage.send(node, account, recipient=chat)
        await give_past(stage, account, 120, chat)
    job = await sync(stage, node, account)

    async def begun() -> bool:
        return await past(stage, account, chats[0]) > 0

    await eventually(begun)
    await stage.send(node, account, recipient=chats[1])

    assert (await ended(stage, job))["done"] == 240
    assert [await past(stage, account, chat) for chat in chats] == [120, 120]


async def test_of_a_past_whose_node_is_killed_nothing_is_lost_or_told_twice(stage: Stage) -> None:
    nodes = await stage.running_nodes(2, **QUICKLY)
    account = await stage.create_account()
    first = await owner_of(stage, nodes, account.id)
    await stage.pair(first, account)
    await stage.until_state(first, account, session_pb2.SESSION_STATE_CONNECTED)
    await give_past(stage, account, 3_000)
    job = await stage.owned(lambda: sync(stage, first, account, chat=ADA, max_messages=100_000))
    uuid = ids.decode(Prefix.JOB, job.id, "job")

    async def begun() -> bool:
        return bool(await stage.database.fetchval("SELECT done > 100 FROM job WHERE id = $1", uuid))

    await eventually(begun)
    await first.kill()

    row = await ended(stage, job)
    assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_SUCCEEDED, 3_000)
    assert await past(stage, account) == 3_000
    told = await synced(stage, account)
    assert sum(one.message_count for one in told) == 3_000
    assert [one.exhausted for one in told].count(True) == 1


async def test_a_job_that_is_under_way_can_be_cancelled(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await give_past(stage, account, 100_000)
    job = await sync(stage, node, account, chat=ADA, max_messages=100_000)

    async def begun() -> bool:
        return await past(stage, account) > 0

    await eventually(begun)
    uuid = ids.decode(Prefix.JOB, job.id, "job")
    await stage.database.execute("UPDATE job SET cancel_time = now() WHERE id = $1", uuid)

    assert (await ended(stage, job))["state"] == job_pb2.JOB_STATE_CANCELLED


async def test_a_job_of_an_account_that_is_not_connected_can_be_cancelled(stage: Stage) -> None:
    await stage.running_nodes(1)
    job = await _waiting(stage, (await stage.create_account()).uuid)
    await stage.database.execute("UPDATE job SET cancel_time = now() WHERE id = $1", job)

    row = await eventually(lambda: _over(stage, job))
    assert (row["state"], row["detail"]) == (job_pb2.JOB_STATE_CANCELLED, "{}")


async def test_a_job_ends_with_its_account_and_names_nobody(stage: Stage) -> None:
    await stage.running_nodes(1)
    job = await _waiting(stage, new_uuid())

    row = await eventually(lambda: _over(stage, job))
    assert (row["state"], row["subject"]) == (job_pb2.JOB_STATE_CANCELLED, "")


async def _waiting(stage: Stage, account: UUID) -> UUID:
    """A job of an account that is not connected, or not there."""
    row = await stage.database.fetchrow(
        "INSERT INTO job (id, tenant, account, shard, kind, subject) VALUES ($1, $2, $3, $4, $5, $6)"
        " RETURNING id",
        new_uuid(),
        stage.tenant,
        account,
        shard_of(encode(Prefix.ACCOUNT, account)),
        job_pb2.JOB_KIND_SYNC_HISTORY,
        ADA,
    )
    assert row is not None
    return UUID(row["id"].bytes)


async def _over(stage: Stage, job: UUID) -> Any:
    return await stage.database.fetchrow("SELECT * FROM job WHERE id = $1 AND end_time IS NOT NULL", job)


async def test_a_past_that_cannot_be_fetched_says_why(stage: Stage) -> None:
    (node,) = await stage.running_nodes(1, **QUICKLY)
    account = await stage.paired(node)

    async def said(about: Account = account, **fields: Any) -> list[str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sync(stage, node, about, **fields)
        error = from_rpc_error(caught.value)
        return [caught.value.code().name, error.reason, getattr(error, "field", "")]

    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]
    assert await said(max_messages=100_001) == [*invalid, "max_messages"]
    assert await said(chat="status") == [*invalid, "chat"]
    assert await said(before_message={"network_message_id": "3A"}) == [*invalid, "before_message"]
    unpaired = await stage.create_account()
    assert await said(unpaired) == ["FAILED_PRECONDITION", "NOT_PAIRED", ""]
    request_id = secrets.token_hex(8)
    job = await sync(stage, node, account, chat=ADA, request_id=request_id)
    assert (await sync(stage, node, account, chat=ADA, request_id=request_id)).id == job.id
    reused = await said(chat=BOB, request_id=request_id)
    assert reused[:2] == ["ALREADY_EXISTS", "REQUEST_ID_REUSED"]
