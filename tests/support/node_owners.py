"""Which of a stage's nodes owns an account."""

from __future__ import annotations

import grpc.aio

from mesh_core.ids import SHARDS
from sessionmesh.v1 import session_pb2 as pb
from tests.support.eventually import eventually
from tests.support.session_node_stage import NodeProcess, Stage


async def owner_of(stage: Stage, nodes: list[NodeProcess], account_id: str) -> NodeProcess:
    """The node that answers for the account, once each has its share: before that shards move."""
    share = SHARDS // len(nodes)

    async def shared() -> bool:
        rows = await stage.database.fetch(
            "SELECT count(*) AS shards FROM shard_fence WHERE NOT released GROUP BY holder"
        )
        return [row["shards"] for row in rows] == [share] * len(nodes)

    await eventually(shared, what="an equal share for each node")

    async def found() -> NodeProcess | None:
        for node in nodes:
            request = pb.WatchSessionRequest(account_id=account_id)  # a stream is not sent on to the owner
            watching = node.sessions.WatchSession(request, metadata=stage.metadata, timeout=2)
            try:
                await watching.read()
            except grpc.aio.AioRpcError:
                continue
            finally:
                watching.cancel()
            return node
        return None

    answer: NodeProcess = await eventually(found)
    return answer
