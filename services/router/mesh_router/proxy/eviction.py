"""Closes connections to addresses where nothing serves any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from mesh_core.etcd import boottime
from mesh_core.ownership.view import OwnerView
from mesh_router.proxy.resolver import ClusterView, Directory
from mesh_router.proxy.upstreams import Upstreams

logger = structlog.get_logger(__name__)

UNREGISTERED_SECONDS = 60.0
"""An address is evicted once it has been unregistered for this long: enough for calls in flight to end, and
for services to register again after etcd was unavailable."""
DEAD_SECONDS = 2.0
"""A session-node without a key in etcd for this long is dead: a live one restores it within a beat."""


async def evict_unregistered(
    view: ClusterView, directories: Mapping[str, Directory], upstreams: Upstreams
) -> None:
    """Closes connections to addresses that no node or service is registered with. Runs until cancelled."""
    missing: set[str] = set()
    while True:
        await asyncio.sleep(UNREGISTERED_SECONDS)
        live = {node.address for node in view.nodes()}
        for directory in directories.values():
            live |= {service.address for service in directory.services()}
        for address in missing - live:
            await upstreams.evict(address)
        missing = upstreams.addresses() - live


async def evict_dead_nodes(view: OwnerView, upstreams: Upstreams) -> None:
    """Closes connections to session-nodes that are dead. Runs until cancelled.

    A machine that is cut off from the network closes no connection: calls to it would hang until the
    keepalive notices. So they fail at once, and those that may be retried go to the new owner. A node that
    lost its lease but lives restores its key in time, or its address is still in owner keys.
    """
    departed: dict[str, float] = {}
    registered: set[str] = set()
    while True:
        version = view.changes.version
        now = {node.address for node in view.nodes()}
        departed |= dict.fromkeys(registered - now, boottime() + DEAD_SECONDS)
        registered = now
        due = [address for address, at in departed.items() if at <= boottime()]
        if due:
            serving = registered | {owner.address for owner in view.owners().values()}
            for address in due:
                del departed[address]
                if address not in serving:
                    logger.info("closing connections to a dead session-node", address=address)
                    await upstreams.evict(address)
        with suppress(TimeoutError):
            async with asyncio.timeout(DEAD_SECONDS / 4 if departed else None):
                await view.changes.wait(version)
