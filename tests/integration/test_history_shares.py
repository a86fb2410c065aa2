"""Jobs that fetch the past of chats: one tenant's hold up nobody else's, and are only so many."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from mesh_core.ids import new_uuid
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node.inbound.history import AT_ONCE
from mesh_session_node.store.history_jobs import MAX_OF_A_TENANT
from sessionmesh.v1 import job_pb2
from tests.integration.test_history import ADA, ended, give_past, past, sync
from tests.support.eventually import eventually
from tests.support.session_node_stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_tenant_whose_accounts_all_fetch_a_long_past_leaves_room_for_others(stage: Stage) -> None:
    (node,) = await stage.running_nodes(1)
    accounts = await asyncio.gather(*[stage.paired(node) for _ in range(AT_ONCE)])
    for account in accounts:
        await give_past(stage, account, 100_000)
        await sync(stage, node, account, chat=ADA, max_messages=100_000)

    async def all_begun() -> bool:
        begun = "SELECT count(*) FROM job WHERE tenant = $1 AND done > 0"
        return bool(await stage.database.fetchval(begun, stage.tenant) >= AT_ONCE // 2)

    await eventually(all_begun)
    other = await stage.of_a_new_tenant()
    theirs = await other.paired(node)
    await give_past(stage, theirs, 50)

    row = await ended(stage, await sync(other, node, theirs, chat=ADA))

    assert (row["state"], await past(stage, theirs)) == (job_pb2.JOB_STATE_SUCCEEDED, 50)
    running = await stage.database.fetchval(
        "SELECT count(*) FROM job WHERE tenant = $1 AND done > 0 AND end_time IS NULL", stage.tenant
    )
    assert running == AT_ONCE // 2, "the others wait for their turn"
    await stage.database.execute("UPDATE job SET end_time = now()")


async def test_a_tenant_has_only_so_many_jobs_that_have_not_ended(stage: Stage) -> None:
    (node,) = await stage.running_nodes(1)
    account, other = await stage.paired(node), await stage.of_a_new_tenant()
    theirs = await other.paired(node)
    await stage.database.execute(
        "INSERT INTO job (id, tenant, account, kind) SELECT gen_random_uuid(), $1, $2, $3"
        " FROM generate_series(1, $4)",
        stage.tenant,
        new_uuid(),
        job_pb2.JOB_KIND_SYNC_HISTORY,
        MAX_OF_A_TENANT,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sync(stage, node, account, chat=ADA)
    assert from_rpc_error(caught.value).reason == "QUOTA_EXCEEDED"
    assert await sync(other, node, theirs, chat=ADA)
