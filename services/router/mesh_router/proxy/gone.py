"""Closing the connections to addresses that nobody serves on any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from mesh_core.etcd import boottime
from mesh_core.ownership.view import OwnerView
from mesh_router.proxy.peers import Peers
from mesh_router.proxy.targets import Directory, Ownership

logger = structlog.get_logger(__name__)

FORGOTTEN_AFTER = 60.0
"""Seconds: enough for calls in flight, and for what is registered anew after etcd was away."""
DEAD_AFTER = 2.0
"""Seconds without a node's key: one that lives puts it back within a beat."""


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
    """Closes the connection to a session-node that is gone, and stays gone for a moment.

    A machine that is cut off closes nothing by itself: calls to it would hang until the keepalive notices.
    They fail now, and those that may be sent again go to the new owner. A node whose lease was lost, but that
    lives, is back in time, or still named by those who wait for its accounts. Runs until it is cancelled.
    """
    departed: dict[str, float] = {}
    registered: set[str] = set()
    while True:
        changed = view.changed
        now = {node.address for node in view.nodes()}
        departed |= dict.fromkeys(registered - now, boottime() + DEAD_AFTER)
        registered = now
        due = [address for address, at in departed.items() if at <= boottime()]
        if due:
            serving = registered | {owner.address for owner in view.owners().values()}
            for address in due:
                del departed[address]
                if address not in serving:
                    logger.info("a session-node is gone", address=address)
                    await peers.forget(address)
        with suppress(TimeoutError):
            async with asyncio.timeout(DEAD_AFTER / 4 if departed else None):
                await changed.wait()
