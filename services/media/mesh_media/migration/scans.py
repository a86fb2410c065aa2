"""ScanStorage: compares rows with objects, both ways, and mends what is wrong.

First each row's object is looked for, then each store's objects are listed. Sizes are compared, contents are
not: a download does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import structlog

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.database.requests import Method, request_digest
from mesh_core.errors import FailedPrecondition
from mesh_core.jobs import NewJob, Step, SteppedWorker, Total, store
from mesh_media.ingest.metrics import count_failure
from mesh_media.repository import lost_objects
from mesh_media.repository.moving_repository import Moving
from mesh_media.stores.directory import UNFINISHED
from mesh_media.stores.named_stores import Stores
from mesh_media.stores.object_store import FoundObject, store_of
from sessionmesh.v1 import job_pb2, media_pb2

logger = structlog.get_logger(__name__)

STEP_ROWS, STEP_LISTED = 256, 1000
LOOKS_AT_ONCE = 32
FEW = 16
"""Fewer objects may be lost all at once; more than that, and it is the store that is not the right one."""


class Scans(SteppedWorker):
    """Starts and runs scans."""

    kind = job_pb2.JOB_KIND_SCAN_STORAGE

    def __init__(self, database: Database, stores: Stores) -> None:
        super().__init__(database)
        self._stores = stores

    async def start(self, request: media_pb2.ScanStorageRequest) -> asyncpg.Record:
        """The job's row."""
        request_id = validation.request_id(request.request_id)
        new = NewJob(ids.new_uuid(), self.kind, dry_run=request.dry_run)
        async with self._database.pool.acquire() as connection, connection.transaction():
            digest = request_digest(request)
            first = await store.repeated(connection, Method.SCAN_STORAGE, request_id, digest, new)
            return first or await store.insert(connection, new)

    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        return Total(await connection.fetchval("SELECT count(*) FROM media_object"))

    async def step(self, connection: asyncpg.Connection, row: asyncpg.Record, position: str) -> Step:
        phase, _, after = position.partition(" ")
        if phase in ("", _ROWS):
            return await self._look_for_rows(connection, after, mend=not row["dry_run"])
        return await self._look_through(connection, phase, after, mend=not row["dry_run"])

    async def _look_for_rows(self, connection: asyncpg.Connection, after: str, *, mend: bool) -> Step:
        """Rows whose objects are gone, or cut off. Raises `FailedPrecondition` where a store has none."""
        page = await lost_objects.page(connection, after, STEP_ROWS)
        if not page:
            return Step(f"{self._stores.names[0]} ")
        lost = await self._missing(page)
        for name in self._stores.names:
            of_store = [one for one in page if store_of(one.key) == name]
            if len(of_store) >= FEW and all(one in lost for one in of_store):
                raise FailedPrecondition(
                    f"the store {name} has none of the {len(of_store)} objects that were looked for: "
                    "is it the right folder or bucket?",
                    "UNSUPPORTED_BY_STORE",
                )
        failed = 0
        for one in lost:
            ended = await lost_objects.give_up(connection, one) if mend else 0
            if ended is not None:
                failed += 1
                count_failure(media_pb2.MEDIA_FAILURE_OBJECT_LOST, ended)
                logger.warning("an object is lost", key=one.key, bytes=one.size, mended=mend)
        return Step(f"{_ROWS} {page[-1].key}", done=len(page), failed=failed)

    async def _missing(self, page: Sequence[Moving]) -> list[Moving]:
        places = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def is_there(one: Moving) -> bool:
            async with places:
                return await self._stores.size(one.key) == one.size

        there = await asyncio.gather(*map(is_there, page))
        return [one for one, found in zip(page, there, strict=True) if not found]

    async def _look_through(
        self, connection: asyncpg.Connection, name: str, after: str, *, mend: bool
    ) -> Step:
        """Objects of a store that no row knows. Raises `FailedPrecondition` where rows know none of them."""
        page = await self._stores.page_of(name, after, STEP_LISTED)
        if not page:
            following = self._stores.names[self._stores.names.index(name) + 1 :]
            return Step(f"{following[0]} " if following else None)
        orphans = await _orphans(connection, page)
        if orphans and not await lost_objects.has_objects(connection, name):
            raise FailedPrecondition(
                f"there are objects in the store {name}, and no media has any there: is it another mesh's?",
                "UNSUPPORTED_BY_STORE",
            )
        if mend:
            await self._delete(orphans)
        for one in orphans:
            logger.warning("an object is nobody's", key=one.key, bytes=one.size, mended=mend)
        size = sum(one.size for one in orphans)
        return Step(f"{name} {page[-1].key}", done=len(orphans), failed=len(orphans), done_bytes=size)

    async def _delete(self, orphans: Sequence[FoundObject]) -> None:
        places = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def delete(one: FoundObject) -> None:
            async with places:
                await self._stores.delete(one.key)

        await asyncio.gather(*map(delete, orphans))


async def _orphans(connection: asyncpg.Connection, page: Sequence[FoundObject]) -> list[FoundObject]:
    """What is written of an object before it is whole is nobody's, unless it is being written now."""
    meant = {one.key: one.key.partition(UNFINISHED)[0] if one.unfinished else one.key for one in page}
    objects, loose = await lost_objects.known(connection, [*meant.values()])
    return [
        one
        for one in page
        if meant[one.key] not in loose and (one.unfinished or meant[one.key] not in objects)
    ]


_ROWS = "-"
"""The phase before the stores, which are phases by their names."""
