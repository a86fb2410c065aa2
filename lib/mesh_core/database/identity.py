"""Which database this is.

A position in the order of events holds a transaction id, which means something on one server only. So a copy
that was restored on another server must be adopted before anything uses it.
"""

from __future__ import annotations

from mesh_core.database.pool import Database
from mesh_core.errors import Misconfigured

EPOCH_LEAP = 1_000_000
"""What adopting adds to every shard's epoch: more than have been given since any backup worth restoring."""


class ForeignDatabase(Misconfigured):
    """The database was restored from another server, and has not been adopted on this one."""


async def check_identity(database: Database) -> int:
    """Returns the generation of the database: how many servers it has been on, from 1.

    Raises `ForeignDatabase`, whose message says what to do.
    """
    [row] = await database.pool.fetch(_IDENTITY)
    if row["recorded"] != row["actual"]:
        raise ForeignDatabase(
            "this database was restored from another server: its event cursors would skip or repeat events. "
            "Make sure that nothing uses the original any more, then run `mesh db adopt`"
        )
    return int(row["generation"])


async def page_token_key(database: Database) -> bytes:
    """The secret that page tokens are signed with: one for all processes, made with the database."""
    key: bytes = await database.pool.fetchval("SELECT page_key FROM cluster_identity")
    return key


async def adopt(database: Database) -> int:
    """Makes a restored database this server's own; returns its new generation, or the present one when it
    is this server's already.

    Its events keep their order under new positions, and cursors of the generation before are expired. No node
    owns a shard any more, and every shard's epoch is higher than any that was given after the backup. Nothing
    else may use the database meanwhile; it takes about a minute per ten million events.
    """
    connection = await database.connect_direct()
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE cluster_identity IN ACCESS EXCLUSIVE MODE")
            [row] = await connection.fetch(_IDENTITY)
            if row["recorded"] == row["actual"]:
                return int(row["generation"])
            await connection.execute(_REPOSITION)
            await connection.execute("UPDATE event_horizon SET xid = '0', seq = 0")
            await connection.execute(_DISOWN, EPOCH_LEAP)
            await connection.execute("UPDATE node_incarnation SET expired = true")
            return int(await connection.fetchval(_ADOPT))
    finally:
        await connection.close()


_DISOWN = """UPDATE shard_fence SET epoch = epoch + $1::bigint, released = true, wanted_until = NULL"""
_IDENTITY = """SELECT generation, system_identifier AS recorded,
  (SELECT system_identifier FROM pg_control_system()) AS actual FROM cluster_identity"""
_REPOSITION = """UPDATE event e SET xid = pg_current_xact_id(), seq = o.place
  FROM (SELECT tableoid, ctid, row_number() OVER (ORDER BY xid, seq)::int AS place FROM event) o
  WHERE e.tableoid = o.tableoid AND e.ctid = o.ctid"""
_ADOPT = """UPDATE cluster_identity SET generation = generation + 1,
  system_identifier = (SELECT system_identifier FROM pg_control_system()) RETURNING generation"""
