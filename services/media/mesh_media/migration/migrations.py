"""MigrateStorage: moves all objects to one store, while all serve.

From its beginning new objects go to that store. A first pass over the others moves what is there; a last
one, once no upload is under way to them any longer, what came meanwhile. What cannot be moved, because its
bytes are lost or damaged, stays where it is and counts as failed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.database.requests import Method, request_digest
from mesh_core.errors import AlreadyExists, DataLoss, MeshError, Unavailable
from mesh_core.ids import Prefix
from mesh_core.jobs import NewJob, Step, SteppedWorker, Total, store
from mesh_media.migration.copying import Copier, Pace
from mesh_media.repository import moving_repository as moving
from mesh_media.repository.moving_repository import Moving
from mesh_media.repository.storage_repository import READ_SECONDS
from mesh_media.stores.named_stores import Stores
from mesh_media.stores.object_store import key_in
from mesh_media.stores.obstore_objects import damaged
from sessionmesh.v1 import job_pb2, media_pb2

STEP_OBJECTS, STEP_BYTES = 64, 16 * 1024 * 1024
"""What a step copies at most, but one object at least."""
STEP_SECONDS = 2.0
"""How long a step may take where the pace is given."""
COPIES_AT_ONCE = 8
COPY_LIFETIME = timedelta(hours=1)
"""How long copies of a step may take beyond their pace; then they are deleted, unless media refer to them."""
WAIT_SECONDS = 1.0
"""Time between two looks at uploads that are still under way to other stores."""


class Migrations(SteppedWorker):
    """Starts and runs migrations, one at a time."""

    kind = job_pb2.JOB_KIND_MIGRATE_STORAGE

    def __init__(self, database: Database, stores: Stores, grace: timedelta) -> None:
        super().__init__(database)
        self._stores = stores
        self._grace = grace

    async def start(self, request: media_pb2.MigrateStorageRequest) -> asyncpg.Record:
        """The job's row. Raises `InvalidField`, and `AlreadyExists` while another one runs."""
        request_id = validation.request_id(request.request_id)
        target = validation.text("target_store", request.target_store)
        self._stores.check("target_store", target)
        rate = None
        if request.HasField("bytes_per_second"):
            rate = validation.at_least("bytes_per_second", request.bytes_per_second, 1)
        detail = json.dumps({"bytes_per_second": rate})
        new = NewJob(ids.new_uuid(), self.kind, subject=target, detail=detail, dry_run=request.dry_run)
        async with self._database.pool.acquire() as connection, connection.transaction():
            digest = request_digest(request)
            first = await store.repeated(connection, Method.MIGRATE_STORAGE, request_id, digest, new)
            if first is not None:
                return first
            await connection.execute("SELECT FROM media_storage FOR UPDATE")  # one start after the other
            for row in await store.unfinished(connection, self.kind):
                if not row["dry_run"] and not new.dry_run:
                    name = ids.encode(Prefix.JOB, row["id"])
                    raise AlreadyExists(
                        f"storage moves to {row['subject']} already: job {name}",
                        "RESOURCE_EXISTS",
                        resource="job",
                        name=name,
                    )
            return await store.insert(connection, new)

    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        return await moving.count_outside(connection, row["subject"])

    async def step(self, connection: asyncpg.Connection, row: asyncpg.Record, position: str) -> Step:
        target = row["subject"]
        if row["dry_run"]:
            total = await moving.count_outside(connection, target)
            return Step(None, done=total.items or 0, done_bytes=total.bytes or 0)
        phase, _, after = position.partition(" ")
        if not phase:
            await moving.set_current(connection, target)
            await asyncio.sleep(2 * READ_SECONDS)  # until all processes know
            return Step(_FIRST)
        if phase == _WAIT:
            if not await moving.still_comes_elsewhere(connection, target):
                return Step(_LAST)
            await asyncio.sleep(WAIT_SECONDS)
            return Step(_WAIT)
        rate = json.loads(row["detail"])["bytes_per_second"]
        page = _fitting(await moving.outside(connection, target, after, STEP_OBJECTS), rate)
        if not page:
            return Step(_WAIT if phase == _FIRST else None)
        copies = {key_in(target, f"{one.tenant.hex}/{ids.new_uuid().hex}"): one for one in page}
        lifetime = COPY_LIFETIME
        if rate is not None:
            lifetime += timedelta(seconds=sum(one.size for one in page) / rate)
        await moving.announce_copies(connection, copies, lifetime)
        problems = await self._move(connection, row["id"], copies, Copier(self._stores, Pace(rate)))
        return _step(phase, page, problems)

    async def _move(
        self, connection: asyncpg.Connection, job: UUID, copies: Mapping[str, Moving], copier: Copier
    ) -> dict[str, MeshError]:
        """Moves objects; returns why some were not, by the keys that they have still."""
        places = asyncio.Semaphore(COPIES_AT_ONCE)
        outcomes = await asyncio.gather(*(_copied(copier, one, key, places) for key, one in copies.items()))
        found = dict(zip(copies, outcomes, strict=True))
        written = [key for key, problem in found.items() if problem is None]
        await moving.switch(connection, job, copies, written, self._grace)
        return {
            copies[key].key: problem
            for key, problem in found.items()
            if problem is not None and await moving.is_at(connection, copies[key].key)
        }


_FIRST, _WAIT, _LAST = "first", "wait", "last"


async def _copied(copier: Copier, one: Moving, key: str, places: asyncio.Semaphore) -> MeshError | None:
    async with places:
        try:
            await copier.copy(one, key)
        except FileNotFoundError:
            return damaged()
        except (DataLoss, Unavailable) as error:
            return error
    return None


def _fitting(page: Sequence[Moving], rate: int | None) -> Sequence[Moving]:
    """As many from the beginning as a step takes."""
    most = STEP_BYTES if rate is None else min(STEP_BYTES, rate * STEP_SECONDS)
    size = 0
    for number, one in enumerate(page):
        size += one.size
        if size > most and number:
            return page[:number]
    return page


def _step(phase: str, page: Sequence[Moving], problems: Mapping[str, MeshError]) -> Step:
    """Goes on behind the page, or before the first one that a store did not take now. What moved is counted
    already. Raises what the store said when that was the first of all.
    """
    reached: list[Moving] = []
    for one in page:
        if isinstance(problem := problems.get(one.key), Unavailable):
            if not reached:
                raise problem
            break
        reached.append(one)
    failed = [problems[one.key] for one in reached if one.key in problems] if phase == _FIRST else []
    return Step(
        f"{phase} {reached[-1].key}",
        done=len(failed),
        failed=len(failed),
        error=failed[-1] if failed else None,
    )
