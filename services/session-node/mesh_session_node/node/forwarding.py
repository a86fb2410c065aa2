"""Calls for accounts that this node does not own: unary ones are forwarded to the owner, once."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from grpc import StatusCode
from grpc.aio import ServicerContext

from mesh_core.errors import NotOwner
from mesh_core.ownership.view import Owner, OwnerLookup
from mesh_core.rpc.peers import CallFailed, PeerPool
from mesh_core.rpc.peers.metadata import forwarded_metadata
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_session_node.context import metrics

MAX_WAIT = 5.0
"""Seconds that a call waits for its account to have an owner, at most: a handoff takes one, a crash two."""


class ShardOwners(Protocol):
    """Who owns which shard, and whether this node takes new work for it."""

    @property
    def owners(self) -> OwnerLookup: ...
    def admits(self, shard: int) -> bool: ...


class OwnerForwarder:
    """Implements the chassis' `NotOwnerHandler`.

    A call from another part of the mesh (a batched one) was forwarded once already: it is refused, and the
    part that sent it finds the owner again.
    """

    def __init__(self, node_id: str, ownership: ShardOwners, peer_pool: PeerPool) -> None:
        self._node_id = node_id
        self._ownership = ownership
        self._peer_pool = peer_pool

    async def __call__(
        self, path: str, request: bytes, context: ServicerContext[Any, Any], refused: NotOwner
    ) -> bytes:
        if refused.shard is None or isinstance(context, BatchedContext):
            raise refused
        owner = await settled_owner(self._ownership, self._node_id, refused, context.time_remaining())
        metrics.MISPLACED.inc()
        try:
            peer = await self._peer_pool.peer(owner.address)
            if peer is None:
                raise refused
            response = await peer.call(path, request, forwarded_metadata(context), context.time_remaining())
        except CallFailed as failed:
            if failed.code is StatusCode.UNAVAILABLE and failed.reason in ("", "NOT_OWNER"):
                raise NotOwner(owner.node_id, owner.epoch) from failed
            await context.abort(failed.code, failed.message, tuple(failed.trailing))
        if response.initial:
            await context.send_initial_metadata(tuple(response.initial))
        if response.trailing:
            context.set_trailing_metadata(tuple(response.trailing))
        return response.body


async def settled_owner(
    ownership: ShardOwners, node_id: str, refused: NotOwner, remaining: float | None
) -> Owner:
    """Waits while the shard of a call that was `refused` changes hands; returns its owner, which may be this
    node.

    Raises `refused` when that takes too long: `remaining` is the seconds until the caller's deadline.
    """
    shard = refused.shard
    if shard is None:
        raise refused
    # A little before the caller's own deadline, so that it still receives the reason.
    wait = MAX_WAIT if remaining is None else min(remaining * 0.9, MAX_WAIT)
    owners = ownership.owners

    def settled() -> Owner | None:
        owner = owners.owner(shard)
        return owner if owner and (owner.node_id != node_id or ownership.admits(shard)) else None

    try:
        async with asyncio.timeout(wait):
            return await owners.changes.wait_until(settled)
    except TimeoutError:
        raise refused from None
