"""Which store takes new objects: the same one for all processes, as the database says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import DATABASE_ERRORS, Database
from mesh_core.errors import StartupError
from mesh_core.settings import MAIN_STORE
from mesh_media.stores.object_store import key_in

logger = structlog.get_logger(__name__)

READ_SECONDS = 1.0
"""How long this process may not know yet that another store takes new objects."""


class StorageRepository:
    """Makes keys of new objects."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._store = MAIN_STORE

    def new_key(self, tenant: UUID) -> str:
        """The key of an object to be written; it was never used before."""
        return key_in(self._store, f"{tenant.hex}/{ids.new_uuid().hex}")

    async def read(self, stores: Sequence[str]) -> None:
        """Reads which store takes new objects. Raises `StartupError` when one that has objects, or takes
        them, is not among `stores`.
        """
        self._store = await self._pool.fetchval(_CURRENT)
        missing = await self._pool.fetchval(_UNKNOWN, stores)
        if missing is not None:
            raise StartupError(
                f"there are objects in the store {missing}, which MESH_OBJECTS_OTHERS does not name"
            )

    async def keep_reading(self) -> None:
        """Reads it again and again, until cancelled."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            try:
                self._store = await self._pool.fetchval(_CURRENT)
            except DATABASE_ERRORS as error:  # nothing is written then either
                logger.warning("it is not known which store takes new objects", error=repr(error))


_CURRENT = "SELECT store FROM media_storage"
_UNKNOWN = """SELECT store FROM media_storage WHERE store <> ALL ($1)
  UNION ALL (SELECT store FROM media_object WHERE store <> ALL ($1) LIMIT 1) LIMIT 1"""
