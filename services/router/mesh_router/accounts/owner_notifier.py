"""Tells the owner of an account that the account's row has changed.

It saves the caller from waiting: owners also look for changed rows by themselves, once a minute.
"""

from __future__ import annotations

import grpc.aio
import structlog

from mesh_core.ownership.view import OwnerView
from mesh_core.rpc.account_id import shard_of
from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc

logger = structlog.get_logger(__name__)

TIMEOUT = 1.0


class OwnerNotifier:
    """Calls NodeService.RefreshAccounts of owners."""

    def __init__(self, view: OwnerView, channels: ChannelPool, mesh_key: str) -> None:
        self._view = view
        self._channels = channels
        self._mesh_key = mesh_key

    async def changed(self, account_id: str) -> None:
        """Return when the owner has read the row again, after `TIMEOUT` seconds at most.

        Never raises for an owner that is unknown, or does not answer.
        """
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
            logger.info(
                "the owner was not told of a changed account",
                account_id=account_id,
                node=owner.node_id,
                code=error.code().name,
            )
