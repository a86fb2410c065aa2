"""An etcd that has used up its quota: it refuses whatever takes room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh_parent.etcd_gateway import Gateway


@asynccontextmanager
async def etcd_without_space(endpoint: str) -> AsyncIterator[None]:
    """Raise etcd's alarm NOSPACE, which is what makes it refuse, for as long as this lasts."""
    nobody = {"username": "", "password": "", "ca": "", "certificate": "", "key": ""}
    gateway = Gateway(endpoint, nobody)

    def alarm(action: str) -> None:
        # The gateway has this call too; a watchdog never makes it.
        gateway._call("/v3/maintenance/alarm", {"action": action, "alarm": "NOSPACE"})

    await asyncio.to_thread(alarm, "ACTIVATE")
    try:
        yield
    finally:
        await asyncio.to_thread(alarm, "DEACTIVATE")
