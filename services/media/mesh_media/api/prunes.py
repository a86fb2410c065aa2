"""PruneMedia: begins the job that deletes what a filter matches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.database.requests import Method, request_digest
from mesh_core.errors import InvalidField, NotFound, ResourceExhausted
from mesh_core.ids import Prefix
from mesh_core.jobs import NewJob, job_message, store
from mesh_core.rpc.auth import current_identity
from mesh_media.repository.filters import detail_of_filter, media_query
from sessionmesh.v1 import job_pb2, media_pb2

MOST_PRUNES = 20
"""Of a tenant that have not ended; calls that are made at once may add some more."""
RETRY_SECONDS = 60.0


class Prunes:
    """`begun` is called after each job that was begun."""

    def __init__(self, database: Database, begun: Callable[[], None]) -> None:
        self._pool = database.pool
        self._begun = begun

    async def begin(self, request: media_pb2.PruneMediaRequest) -> media_pb2.PruneMediaResponse:
        """What comes after it is not deleted. Raises `InvalidField`, `NotFound` for an unknown tenant,
        `AlreadyExists` REQUEST_ID_REUSED, and `ResourceExhausted` RATE_LIMITED.
        """
        request_id = validation.request_id(request.request_id)
        tenant = UUID(current_identity().tenant_for(request.tenant_id).bytes)
        wanted = media_pb2.MediaFilter()
        wanted.CopyFrom(request.filter)
        wanted.DiscardUnknownFields()
        if wanted.ByteSize() < request.filter.ByteSize():  # more would go than a later version would delete
            raise InvalidField("filter", "has a field that this version does not know")
        if not wanted.ByteSize():
            raise InvalidField("filter", "must set at least one field")
        now, end = datetime.now(UTC), media_query(wanted, tenant).end
        if end is None or end > now:
            wanted.end_time.FromDatetime(now)
        new = NewJob(
            ids.new_uuid(),
            job_pb2.JOB_KIND_PRUNE_MEDIA,
            tenant,
            detail=detail_of_filter(wanted),
            dry_run=request.dry_run,
        )
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval("SELECT true FROM tenant WHERE id = $1", tenant):
                raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
            digest = request_digest(request)
            row = await store.repeated(connection, Method.PRUNE_MEDIA, request_id, digest, new)
            if row is None:
                if await store.count_unfinished(connection, new.kind, tenant) >= MOST_PRUNES:
                    raise ResourceExhausted(
                        f"the tenant has {MOST_PRUNES} prunes that have not ended",
                        "RATE_LIMITED",
                        quota="prunes of media",
                        retry_after=RETRY_SECONDS,
                    )
                row = await store.insert(connection, new)
        self._begun()
        return media_pb2.PruneMediaResponse(job=job_message(row))
