"""ConnectAccounts: every node is asked, and what they answer is added up."""

from __future__ import annotations

import asyncio

import grpc.aio
import structlog

from mesh_core.database import Database
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix, decode
from mesh_core.ownership.keys import NodeInfo
from mesh_core.ownership.view import OwnerView
from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc

logger = structlog.get_logger(__name__)

TIMEOUT = 5.0
"""Seconds that a node has to answer."""


class NodeConnects:
    """Calls NodeService.ConnectAccounts of the nodes."""

    def __init__(self, database: Database, view: OwnerView, channels: ChannelPool, mesh_key: str) -> None:
        self._database = database
        self._view = view
        self._channels = channels
        self._mesh_key = mesh_key

    async def connect(self, request: fleet_pb2.ConnectAccountsRequest) -> fleet_pb2.ConnectAccountsResponse:
        """What all nodes together did, or would do. Raises `InvalidField`, and `NotFound` for a tenant or
        node that does not exist.
        """
        if request.tenant_id:
            tenant = decode(Prefix.TENANT, request.tenant_id, "tenant_id")
            if await self._database.pool.fetchval("SELECT 1 FROM tenant WHERE id = $1", tenant) is None:
                raise NotFound("tenant", request.tenant_id)
        nodes = [node for node in self._view.nodes() if request.node_id in ("", node.id)]
        if request.node_id and not nodes:
            raise NotFound("node", request.node_id)
        asked = node_pb2.ConnectAccountsRequest(
            tenant_id=request.tenant_id, quarantined_only=request.quarantined_only, dry_run=request.dry_run
        )
        answers = await asyncio.gather(*(self._ask(node, asked) for node in nodes))
        response = fleet_pb2.ConnectAccountsResponse()
        for node, answer in zip(nodes, answers, strict=True):
            if answer is None:
                response.silent_node_ids.append(node.id)
            else:
                response.accounts += answer.accounts
                response.quarantined += answer.quarantined
        return response

    async def _ask(
        self, node: NodeInfo, request: node_pb2.ConnectAccountsRequest
    ) -> node_pb2.ConnectAccountsResponse | None:
        """None: it did not answer, or is of a release that cannot."""
        stub = node_pb2_grpc.NodeServiceStub(self._channels.get(node.address))
        metadata = call_metadata(mesh_metadata(self._mesh_key))
        try:
            answer: node_pb2.ConnectAccountsResponse = await stub.ConnectAccounts(
                request, timeout=TIMEOUT, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            logger.warning(
                "a node was not told to connect its accounts", node=node.id, code=error.code().name
            )
            return None
        return answer
