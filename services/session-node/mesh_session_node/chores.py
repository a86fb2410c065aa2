"""What must happen now and then to the tables that the journal writes."""

from __future__ import annotations

import asyncio

import structlog

from mesh_core.database import Database
from mesh_core.database.partitions import make_partitions
from mesh_core.database.requests import forget_requests
from mesh_core.errors import StartupError
from mesh_core.ownership.participant.fence import forget_incarnations
from mesh_session_node.queries import UNAVAILABLE

logger = structlog.get_logger(__name__)


async def prepare(database: Database) -> None:
    """Partitions of messages and events for the next days: before the first one is written."""
    try:
        await _make_partitions(database)
    except UNAVAILABLE as error:
        raise StartupError(f"partitions cannot be made: {error}") from None


async def keep_house(database: Database) -> None:
    """Hourly, until cancelled. Any number of nodes may do it at once."""
    while True:
        await asyncio.sleep(_HOUR)
        try:
            await _make_partitions(database)
            async with database.pool.acquire() as connection:
                while await forget_requests(connection):
                    pass
                await forget_incarnations(connection)
        except UNAVAILABLE as error:
            logger.warning("housekeeping did not finish; there are partitions for days", error=repr(error))


async def _make_partitions(database: Database) -> None:
    connection = await database.connect_direct()
    try:
        await make_partitions(connection)
    finally:
        await connection.close()


_HOUR = 3600.0
