"""Forgetting jobs that ended long ago."""

from __future__ import annotations

import asyncio

import structlog

from mesh_core.database import Database
from mesh_router.jobs import queries
from mesh_router.postgres import AWAY

logger = structlog.get_logger(__name__)


async def forget_ended_jobs(database: Database) -> None:
    """Hourly, until cancelled. Any number of routers may do it at once."""
    while True:
        await asyncio.sleep(_HOUR)
        try:
            while await queries.forget_ended(database.pool):
                pass
        except AWAY as error:
            logger.warning("ended jobs are not forgotten yet", error=repr(error))


_HOUR = 3600.0
