"""Closing the connections to addresses that nobody serves on any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from mesh_core.ownership.view import OwnerView
from mesh_router.proxy.peers import Peers
from mesh_router.proxy.targets import Directory, Ownership

logger = structlog.get_logger(__name__)

FORGOTTEN_AFTER = 60.0
"""Seconds: enough for calls in flight, and for what is registered anew after etcd was away."""
LOOK_SECONDS = 0.05
"""Owners come and go in bursts."""


async def forget_gone(view: Ownership, directories: Mapping[str, Directory], peers: Peers) -> None:
    """Runs until it is cancelled."""
    missing: set[str] = set()
    while True:
        await asyncio.sleep(FORGOTTEN_AFTER)
        live = {node.address for node in view.nodes()}
        for directory in directories.values():
            live |= {service.address for service in directory.services()}
        for address in missing - live:
            await peers.forget(address)
        missing = peers.addresses() - live


async def forget_dead(view: OwnerView, peers: Peers) -> None:
    """Closes the connection to a node at once when others own what it owned, and it is not there any more.

    A machine that is cut off closes nothing by itself: calls to it would hang until the keepalive notices.
    They fail now, and those that may be sent again go to the new owner. Runs until it is cancelled.
    """
    owned_at: dict[int, str] = {}
    while True:
        changed = view.changed
        owners = view.owners()
        taken = {
            owned_at[shard]
            for shard, owner in owners.items()
            if shard in owned_at and owned_at[shard] != owner.address
        }
        for address in taken - {node.address for node in view.nodes()} - {o.address for o in owners.values()}:
            logger.info("a node is gone and its accounts are taken over", address=address)
            await peers.forget(address)
        owned_at.update({shard: owner.address for shard, owner in owners.items()})
        await asyncio.sleep(LOOK_SECONDS)
        await changed.wait()
