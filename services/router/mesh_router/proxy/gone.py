"""Closing the connections to addresses that nobody serves on any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mesh_router.proxy.peers import Peers
from mesh_router.proxy.targets import Directory, Ownership

FORGOTTEN_AFTER = 60.0
"""Seconds: enough for calls in flight, and for what is registered anew after etcd was away."""


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
