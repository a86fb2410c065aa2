"""grpc.lookup.v1.RouteLookupService: which cluster serves an account.

Clients ask without credentials, so the answer depends on the id's shard alone and does not reveal whether the
account exists; the node authorises the call itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from mesh_core.errors import InvalidArgument, InvalidField
from mesh_core.metrics import counters
from mesh_core.ownership.view import Owner
from mesh_core.rpc.account_id import shard_of
from mesh_router.xds.resources import ACCOUNT_KEY, ATTEMPTS_KEY, node_cluster
from mesh_router.xds.routing import ROUTER
from mesh_wire.lookup.rls_pb2 import RouteLookupRequest, RouteLookupResponse

SERVICE = "grpc.lookup.v1.RouteLookupService"
LOOKUPS = counters(
    "mesh_xds_lookups_total",
    "Route lookups by what they were answered.",
    answers="Do calls of xDS clients go straight to the owner?",
    answer=["owner", "router"],
)


class OwnerSource(Protocol):
    """What is needed of `mesh_core.ownership.view.view.OwnerView`."""

    def owner(self, shard: int) -> Owner | None: ...


class NodeAddresses(Protocol):
    """What is needed of `State`."""

    def node_address(self, node_id: str) -> str | None: ...


class Lookups:
    """Answers RouteLookup with `[node:<owner>, router]` and the owner's epoch, or with `[router]`.

    `[router]` is the answer without an account id, for a malformed one, for a shard without owner, and for an
    owner that has no cluster: a client would wait for a cluster that does not come.
    """

    def __init__(self, owners: OwnerSource, nodes: NodeAddresses) -> None:
        self._owners = owners
        self._nodes = nodes
        self._count_owner = LOOKUPS.labels("owner").inc
        self._count_router = LOOKUPS.labels("router").inc

    async def route_lookup(self, raw: bytes, _context: ServicerContext[Any, Any]) -> bytes:
        """RouteLookup, from bytes to bytes."""
        try:
            keys = RouteLookupRequest.FromString(raw).key_map
        except DecodeError:
            raise InvalidArgument("the request is not a RouteLookupRequest", "INVALID_FIELD") from None
        # A client retries a call that failed at the owner: the router knows the new owner, or waits for it.
        owner = None if keys.get(ATTEMPTS_KEY) else self._owner(keys.get(ACCOUNT_KEY, ""))
        if owner is None or self._nodes.node_address(owner.node_id) != owner.address:
            self._count_router()
            return _ROUTER_ALONE
        self._count_owner()
        return _answer(owner.node_id, owner.epoch)

    def _owner(self, account_id: str) -> Owner | None:
        try:
            return self._owners.owner(shard_of(account_id))
        except InvalidField:
            return None


@lru_cache(maxsize=16_384)
def _answer(node_id: str, epoch: int) -> bytes:
    response = RouteLookupResponse(targets=[node_cluster(node_id), ROUTER], header_data=f"epoch={epoch}")
    return response.SerializeToString()


_ROUTER_ALONE = RouteLookupResponse(targets=[ROUTER]).SerializeToString()
