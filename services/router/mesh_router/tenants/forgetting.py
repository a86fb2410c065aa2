"""Has every session-node forget what it has in memory of a person who is erased."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import grpc.aio
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import Unavailable
from mesh_core.ids import Prefix, encode
from mesh_core.ownership.keys import NodeInfo
from mesh_core.ownership.view import OwnerView
from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc

TIMEOUT = 5.0
"""Seconds that a node has to answer."""


class NodeMemories:
    """Calls NodeService.ForgetPerson of the nodes."""

    def __init__(self, view: OwnerView, channels: ChannelPool, mesh_key: str) -> None:
        self._view = view
        self._channels = channels
        self._mesh_key = mesh_key

    async def forget(self, tenant: UUID, addresses: Collection[str]) -> None:
        """Return once all nodes have forgotten who has these addresses. Raises `Unavailable` where one does
        not say so: one that has ended is soon none.
        """
        tenant_id = encode(Prefix.TENANT, tenant)
        request = node_pb2.ForgetPersonRequest(tenant_id=tenant_id, addresses=sorted(addresses))
        await asyncio.gather(*(self._ask(node, request) for node in self._view.nodes()))

    async def _ask(self, node: NodeInfo, request: node_pb2.ForgetPersonRequest) -> None:
        stub = node_pb2_grpc.NodeServiceStub(self._channels.get(node.address))
        metadata = call_metadata(mesh_metadata(self._mesh_key))
        try:
            await stub.ForgetPerson(request, timeout=TIMEOUT, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:  # a node of the release before
                raise Unavailable(
                    f"node {node.id} does not answer: {error.code().name}", "BACKEND_UNAVAILABLE"
                ) from None
