"""PruneMedia's jobs: what a filter matches is deleted, or only counted, by any replica."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.jobs import Step, SteppedWorker, Total, store
from mesh_media.repository.filters import query_of_detail
from mesh_media.repository.listing import count, delete_matching, freed_bytes
from sessionmesh.v1 import job_pb2

STEP = 500
"""Media that one step deletes."""
COUNT_TIMEOUT = "10min"
MOST_COUNTED = 100_000
"""Of tenants with more files it is known at the end how many matched."""


class Pruning(SteppedWorker):
    """Deletes in the order in which files came; a dry run is one step. What is deleted is freed after
    `grace`.
    """

    kind = job_pb2.JOB_KIND_PRUNE_MEDIA

    def __init__(self, database: Database, grace: timedelta) -> None:
        super().__init__(database)
        self._grace = grace

    async def count(self, connection: store.Connection, row: asyncpg.Record) -> Total:
        """Unknown where counting would hold the job's row for long."""
        if row["dry_run"] or await connection.fetchval(_STORED, row["tenant"]) > MOST_COUNTED:
            return Total()
        return Total(await count(connection, query_of_detail(row["detail"], row["tenant"])))

    async def step(self, connection: asyncpg.Connection, row: asyncpg.Record, position: str) -> Step:
        wanted = query_of_detail(row["detail"], row["tenant"])
        if row["dry_run"]:
            # Two statements that write nothing: they hide no events while they take their time.
            await connection.execute(f"SET transaction_timeout = '{COUNT_TIMEOUT}'")
            try:
                files, freed = await count(connection, wanted), await freed_bytes(connection, wanted)
            finally:
                await connection.execute("RESET transaction_timeout")
            return Step(None, files, 0, freed)
        after = UUID(position) if position else None
        last, gone, freed = await delete_matching(connection, wanted, after, STEP, self._grace)
        return Step(None if last is None else str(last), gone, 0, freed)


_STORED = "SELECT coalesce(sum(objects), 0) FROM media_total WHERE tenant = $1"
