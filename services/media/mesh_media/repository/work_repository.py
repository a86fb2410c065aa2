"""What is still to be done to PENDING media, and how it ends: in one transaction with its event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.pool import AnyConnection
from mesh_core.ids import Prefix
from mesh_core.telemetry.tracing import current_traceparent
from mesh_core.validation import to_timestamp
from mesh_media.repository.media_repository import read_media, write_file
from mesh_media.repository.references import hold, release
from mesh_media.repository.resource import account_id, media_message
from mesh_media.repository.rows import PROCESS, MediaRow, NewFile, WorkRow
from sessionmesh.v1 import event_pb2, media_pb2

CLAIM = timedelta(seconds=60)
"""How long work is nobody else's, unless the claim is renewed: then its process is taken for dead."""


class WorkRepository:
    """Claims work in turns over the tenants, for any number of processes at once."""

    def __init__(self, database: Database, grace: timedelta) -> None:
        """What a file no longer needs is deleted after `grace`."""
        self._pool = database.pool
        self._grace = grace

    async def claim(self, kind: int, after: UUID, busy: Collection[UUID]) -> WorkRow | None:
        """The longest due work of a kind, of the tenant whose turn it is: the next one behind `after` that
        has some, and is not one of `busy`. None when no tenant has any.
        """
        for start in (after, _BEFORE_ALL):
            row = await self._pool.fetchrow(_CLAIM, kind, start, [*busy], CLAIM)
            if row is not None:
                return WorkRow(**dict(row))
        return None

    async def renew(self, kind: int, media: Collection[UUID]) -> None:
        """Renews the claims to this kind of work of these media."""
        await self._pool.execute(_RENEW, [*media], CLAIM, kind)

    async def postpone(self, row: WorkRow, delay: timedelta) -> None:
        """Gives a claim up: the work is due again after `delay`, with the faults that it has by now."""
        await self._pool.execute(_POSTPONE, row.media, delay, row.faults)

    async def process_later(
        self, media: UUID, file: NewFile, came: tuple[int, bytes, str], options: bytes
    ) -> MediaRow | None:
        """Has a media whose file was fetched be one that is to be processed, by whichever process; returns
        None and raises as `finish` does.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            before = await connection.fetchrow(_TAKE, media)
            if before is None or before["sha256"] is not None:  # another process has fetched it
                return None
            await write_file(connection, media, before["tenant"], file)
            await connection.execute(_CAME, media, *came)
            await connection.execute(_TO_PROCESS, media, PROCESS, options)
            return await read_media(connection, media)

    async def finish(self, media: UUID, file: NewFile, came: tuple[int, bytes, str]) -> MediaRow | None:
        """Has a media be READY with this file, whose bytes as they came have such a size and hash, and which
        has such a name. None when it is not PENDING any more: then the file is not used. Raises `ObjectGone`.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            before = await connection.fetchrow(_TAKE, media)
            if before is None:
                return None
            old = [] if before["sha256"] is None else [before["sha256"]]
            await hold(connection, before["tenant"], [*old, *(one.sha256 for one in file.objects)])
            await write_file(connection, media, before["tenant"], file)
            await connection.execute(_READY, media, *came)
            return await self._end(connection, media, before["tenant"], before["sha256"])

    async def fail(self, media: UUID, failure: media_pb2.MediaFailure.ValueType) -> MediaRow | None:
        """Has a media be FAILED; its bytes go. None when it is not PENDING any more."""
        async with self._pool.acquire() as connection, connection.transaction():
            before = await connection.fetchrow(_TAKE, media)
            if before is None:
                return None
            await connection.execute(_FAILED, media, failure)
            return await self._end(connection, media, before["tenant"], before["sha256"])

    async def _end(
        self, connection: PoolConnectionProxy, media: UUID, tenant: UUID, sha256: bytes | None
    ) -> MediaRow:
        if sha256 is not None:  # what it had while it was PENDING
            await release(connection, Counter([(tenant, sha256)]), self._grace)
        await connection.execute("DELETE FROM media_work WHERE media = $1", media)
        row = await read_media(connection, media)
        await tell_of_end(connection, row)
        return row


async def tell_of_end(connection: AnyConnection, row: MediaRow) -> None:
    """Adds the event that says what became of a media."""
    uuid = ids.new_uuid()
    type_ = "media.ready" if row.is_ready else "media.failed"
    event = event_pb2.Event(
        id=ids.encode(Prefix.EVENT, uuid),
        tenant_id=ids.encode(Prefix.TENANT, row.tenant),
        account_id=account_id(row),
        type=type_,
        traceparent=current_traceparent(),
        media=event_pb2.MediaEvent(media=media_message(row)),
    )
    event.occur_time.CopyFrom(to_timestamp(await connection.fetchval("SELECT now()")))
    await connection.execute(
        _ADD_EVENT, uuid, row.tenant, row.account or _NO_ACCOUNT, type_, event.SerializeToString()
    )


_BEFORE_ALL = UUID(bytes(16))
_NO_ACCOUNT = UUID(bytes(16))
# One index probe for each tenant that has work, until one of them has some that is due and nobody holds.
_CLAIM = """WITH RECURSIVE turn AS (
    (SELECT tenant FROM media_work WHERE tenant > $2 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT w.tenant FROM media_work w WHERE w.tenant > t.tenant ORDER BY w.tenant LIMIT 1)
      FROM turn t WHERE t.tenant IS NOT NULL)
UPDATE media_work SET due_time = now() + $4, attempts = attempts + 1 WHERE media = (
  SELECT first.media FROM turn CROSS JOIN LATERAL (
    SELECT media FROM media_work w WHERE w.tenant = turn.tenant AND w.kind = $1 AND w.due_time <= now()
      ORDER BY w.due_time LIMIT 1 FOR UPDATE SKIP LOCKED) first
  WHERE turn.tenant <> ALL ($3::uuid[]) LIMIT 1)
RETURNING media, tenant, kind, options, url, with_headers, attempts - 1 AS attempts, faults"""
_POSTPONE = "UPDATE media_work SET due_time = now() + $2, faults = $3 WHERE media = $1"
_RENEW = "UPDATE media_work SET due_time = now() + $2 WHERE media = ANY ($1) AND kind = $3"
_TO_PROCESS = """UPDATE media_work SET kind = $2, options = $3, url = '', with_headers = false, attempts = 0,
  faults = 0, due_time = now() WHERE media = $1"""
# The states are 1 PENDING, 2 READY, 3 FAILED.
_TAKE = "SELECT tenant, sha256 FROM media WHERE id = $1 AND state = 1 FOR UPDATE"
_CAME = "UPDATE media SET original_size = $2, original_sha256 = $3, file_name = $4 WHERE id = $1"
_READY = "UPDATE media SET state = 2, original_size = $2, original_sha256 = $3, file_name = $4 WHERE id = $1"
_FAILED = "UPDATE media SET state = 3, failure = $2, sha256 = NULL WHERE id = $1"
_ADD_EVENT = (
    """INSERT INTO event (id, seq, tenant, account, epoch, type, body) VALUES ($1, 0, $2, $3, 0, $4, $5)"""
)
