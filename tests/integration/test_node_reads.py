"""What calls read of a session-node's database: one tenant's hold up nobody else's."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio

from mesh_core.rpc.server.status import from_rpc_error
from sessionmesh.v1 import message_pb2
from tests.support import service_calls
from tests.support.eventually import eventually
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
READERS = 20


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    return await stage.start_node()


@asynccontextmanager
async def locked(stage: Stage, table: str) -> AsyncIterator[None]:
    """Nobody can read or write a row of `table` meanwhile."""
    connection = await asyncpg.connect(stage.environment["MESH_DATABASE_URL"])
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table}")
            yield
    finally:
        await connection.close()


async def waiting(stage: Stage) -> int:
    """How many statements wait for records."""
    return int(
        await stage.database.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND query LIKE '%account_record%'"
        )
    )


async def messages(
    stage: Stage, node: NodeProcess, account: Account, timeout: float = 2
) -> message_pb2.ListMessagesResponse:
    request = message_pb2.ListMessagesRequest(account_id=account.id)
    listed: message_pb2.ListMessagesResponse = await node.messages.ListMessages(
        request, metadata=stage.metadata, timeout=timeout
    )
    return listed


async def test_a_tenant_whose_reads_take_long_holds_up_no_other_tenant_s(
    stage: Stage, node: NodeProcess
) -> None:
    slow, other = await stage.paired(node), await stage.of_a_new_tenant()
    theirs = await other.paired(node)
    before = await waiting(stage)
    async with locked(stage, "account_record"):
        readers = [
            asyncio.create_task(
                service_calls.ask("group", stage, node, slow, "ListGroups"),
                name=f"reader {secrets.token_hex(2)}",
            )
            for _ in range(READERS)
        ]

        async def some_wait() -> bool:
            return await waiting(stage) > before

        await eventually(some_wait)
        for _ in range(5):
            assert not (await messages(other, node, theirs)).messages
        assert await waiting(stage) - before <= 5, "its calls have half of the connections at most"
    await asyncio.gather(*readers, return_exceptions=True)
    assert not (await messages(stage, node, slow)).messages


async def test_a_search_through_all_that_an_account_has_ends_in_time(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    async with locked(stage, "message"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await messages(stage, node, account, timeout=20)
    assert from_rpc_error(refused.value).reason == "SEARCH_TOO_LONG"
    assert not (await messages(stage, node, account)).messages
