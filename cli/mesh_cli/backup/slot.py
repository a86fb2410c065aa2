"""The replication slots of a follower: what the server keeps until it is stored, and what is being received.

The server drops no part of its log that a slot still needs. Two slots, because a receiver tells the server of
what it has on its own disk, and that is lost with its machine: `BACKUP_SLOT` goes on only when a segment is
stored, and the receiver's own, a copy of it made at each start, as it receives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from mesh_cli.backup import Failed, Refused
from mesh_cli.backup.log_files import place
from mesh_cli.backup.source import CLIENT, CONNECT_SECONDS, SEGMENT_BYTES
from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.watch import BACKUP_SLOT, RECEIVER_SLOT


async def make_slots(url: str) -> None:
    """Makes what is missing; the receiver begins where nothing is stored any more.

    Raises `Refused` while somebody else follows, and `Failed` when the server has dropped what was to be
    kept: then the next start begins anew.
    """
    async with _connected(url) as connection:
        try:
            await connection.execute(_DROP, RECEIVER_SLOT)
        except asyncpg.ObjectInUseError:
            raise Refused("another follow of this database is running: wait for its end") from None
        if await connection.fetchval(_IS_LOST, BACKUP_SLOT):
            await connection.execute(_DROP, BACKUP_SLOT)
            raise Failed(LOST)
        await connection.execute(_CREATE, BACKUP_SLOT)
        await connection.execute(_COPY, BACKUP_SLOT, RECEIVER_SLOT)


async def stored_until(url: str, segment: str) -> None:
    """The server need not keep `segment` any more, nor what is before it. Raises `Failed`."""
    end = (place(segment) + 1) * SEGMENT_BYTES
    try:
        async with _connected(url) as connection:
            await connection.execute(_ADVANCE, BACKUP_SLOT, f"{end >> 32:X}/{end & 0xFFFFFFFF:X}")
    except DATABASE_ERRORS as error:
        raise Failed(
            f"the server keeps {segment}, which is stored: {error or type(error).__name__}"
        ) from None


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    # Anew each time: a quiet database fills a segment in hours, and servers and firewalls end what idles.
    connection = await asyncpg.connect(
        url, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS, server_settings=CLIENT
    )
    try:
        yield connection
        await connection.close(timeout=CONNECT_SECONDS)
    finally:
        connection.terminate()


LOST = (
    "the server has dropped a part of the log that was not stored: run `mesh backup run` now, and follow "
    "again; until then nothing later than the missing part can be restored"
)
_DROP = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1"
_IS_LOST = """SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1
  AND (wal_status = 'lost' OR restart_lsn IS NULL))"""
_CREATE = """SELECT pg_create_physical_replication_slot($1, true)
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)"""
_COPY = "SELECT pg_copy_physical_replication_slot($1, $2)"
_ADVANCE = """SELECT pg_replication_slot_advance($1, $2::text::pg_lsn) FROM pg_replication_slots
  WHERE slot_name = $1 AND restart_lsn < $2::text::pg_lsn"""
