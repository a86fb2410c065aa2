"""Work that one process of the mesh does at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from mesh_core.database import Database


@asynccontextmanager
async def alone(database: Database, work: str) -> AsyncIterator[asyncpg.Connection | None]:
    """A connection of its own, while no other process is at this work; else None. Its transactions are short
    by time-outs.
    """
    connection = await database.connect_direct()
    try:
        await connection.execute(_SESSION)
        yield connection if await connection.fetchval(_LOCK, work) else None
    finally:
        connection.terminate()  # gives the lock back, also in the middle of a statement


_SESSION = """SET lock_timeout = '2s'; SET transaction_timeout = '10s';
  SET idle_in_transaction_session_timeout = '10s'"""
_LOCK = "SELECT pg_try_advisory_lock(hashtext('sessionmesh ' || $1))"
