"""Telling an account's owner that its row has changed. The owner also looks by itself every minute."""

from __future__ import annotations

import grpc.aio
import structlog

from mesh_core.ownership.view import OwnerView
from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from mesh_router.proxy.account_id import shard_of
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc

logger = structlog.get_logger(__name__)

TIMEOUT = 1.0


class OwnerRefresh:
    """Calls NodeService.RefreshAccounts of owners; never raises for one that does not answer."""

    def __init__(self, view: OwnerView, channels: ChannelPool, mesh_key: str) -> None:
        self._view = view
        self._channels = channels
        self._mesh_key = mesh_key

    async def refresh(self, account_id: str) -> None:
        """Wait until the owner has read the account's row again, `TIMEOUT` seconds at most."""
        owner = self._view.owner(shard_of(account_id))
        if owner is None or not self._mesh_key:
            return
        node = node_pb2_grpc.NodeServiceStub(self._channels.get(owner.address))
        try:
            await node.RefreshAccounts(
                node_pb2.RefreshAccountsRequest(account_ids=[account_id]),
                timeout=TIMEOUT,
                metadata=call_metadata(mesh_metadata(self._mesh_key)),
            )
        except grpc.aio.AioRpcError as error:
            logger.info("owner not told", account_id=account_id, node=owner.node_id, code=error.code().name)
