"""Hears that deliveries were committed, by this instance or another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from mesh_core.database import Database
from mesh_core.database import UNAVAILABLE

logger = structlog.get_logger(__name__)

CHANNEL = "webhook_deliveries"


async def listen(database: Database, wake: Callable[[], None]) -> None:
    """Call `wake` for every NOTIFY; until it is cancelled. A hint: dispatchers also look by themselves."""
    while True:
        try:
            connection = await database.connect_direct()
            lost = asyncio.Event()
            try:
                connection.add_termination_listener(lambda *_, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, lambda *_: wake())
                await lost.wait()
            finally:
                connection.terminate()
        except UNAVAILABLE as error:
            logger.warning("deliveries: not listening", error=repr(error))
        await asyncio.sleep(_RELISTEN)


_RELISTEN = 0.5
