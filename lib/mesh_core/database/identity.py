"""Which database this is.

A position in the order of events holds a transaction id, which means something on one server only. So a copy
that was restored on another server must be adopted before anything uses it. A copy is older than the
network, too: what its accounts have sent since is unknown to it. So adopting pauses them, and raises every
shard's epoch so far that a row of the time before can be told by its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_core.database.pool import Database
from mesh_core.database.requests import RecordKind
from mesh_core.errors import Misconfigured
from sessionmesh.v1.account_pb2 import DESIRED_STATE_ONLINE, DESIRED_STATE_PAUSED

EPOCH_LEAP = 1_000_000
"""What adopting adds to every shard's epoch: more than have been given since any backup worth restoring."""


def stored_before_restore(epoch: int, now: int) -> bool:
    """Whether a row that was stored under `epoch` is of the time before the database was adopted, where its
    shard's epoch is `now`. Epochs rise by one with each owner, so nothing else lies between.
    """
    return now - epoch >= EPOCH_LEAP


@dataclass(frozen=True, slots=True)
class Adopted:
    """The generation of an adopted database, and whether it got it just now."""

    generation: int
    changed: bool


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


async def adopt(
    database: Database,
    ratchet_rows: Sequence[str],
    *,
    restored: bool = False,
    resend: bool = False,
    anew: bool = False,
) -> Adopted:
    """Makes a restored database this server's own; returns its new generation, and whether anything was done:
    a database that is this server's already, or that no node has used since it was adopted, stays as it is.
    `restored`: it was restored even if the server's identifier is the same, as it is in a copy of the
    server's files. `anew`: that was done just now, whatever was adopted before. Raises `Misconfigured` for
    `resend` where nothing is done.

    Its events keep their order under new positions, and cursors of the generation before are expired. No node
    owns a shard any more, and every shard's epoch is higher than any that was given after the backup.
    Accounts are paused, and noted as RESTORED. Rows of drivers whose keys are LIKE one of
    `ratchet_rows`, what they encrypt with, are gone: other keys are agreed on. Owners skip positions of
    other ratchets, and end what was waiting to be sent as IN_DOUBT, unless it was to leave later than now,
    or `resend`: then it is sent under the ids that it has.

    Nothing else may use the database meanwhile; it takes about a minute per ten million events.
    """
    connection = await database.connect_direct()
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE cluster_identity IN ACCESS EXCLUSIVE MODE")
            [row] = await connection.fetch(_IDENTITY)
            unused = row["generation"] > 1 and not await connection.fetchval(_USED)
            if row["recorded"] == row["actual"] and not anew and (unused or not restored):
                if resend:
                    raise Misconfigured(
                        f"the database is adopted already, under generation {row['generation']}: what was "
                        "waiting to be sent is settled as was said then, and --resend changes nothing; leave "
                        "it out"
                    )
                return Adopted(int(row["generation"]), changed=False)
            await connection.execute(_REPOSITION)
            await connection.execute("UPDATE event_horizon SET xid = '0', seq = 0")
            await connection.execute(_PAUSE, DESIRED_STATE_ONLINE, DESIRED_STATE_PAUSED, RecordKind.RESTORED)
            await connection.execute(_FORGET_RATCHETS, list(ratchet_rows))
            await connection.execute(_KEEP, EPOCH_LEAP, resend)
            await connection.execute(_DISOWN, EPOCH_LEAP)
            await connection.execute("UPDATE node_incarnation SET expired = true")
            return Adopted(int(await connection.fetchval(_ADOPT)), changed=True)
    finally:
        await connection.close()


_USED = "SELECT EXISTS (SELECT FROM node_incarnation WHERE NOT expired)"
"""The last node that used a database is never marked as expired: others do that."""
_DISOWN = """UPDATE shard_fence SET epoch = epoch + $1::bigint, released = true, wanted_until = NULL"""
_PAUSE = """WITH paused AS (UPDATE account SET desired_state = $2, version = version + 1, update_time = now()
    WHERE desired_state = $1 AND delete_time IS NULL RETURNING id)
  INSERT INTO account_record (account, kind, key, value, time)
  SELECT id, $3, 'restored', '', now() FROM paused
  ON CONFLICT DO NOTHING"""
_FORGET_RATCHETS = """WITH gone AS (DELETE FROM driver_row WHERE key LIKE ANY ($1::text[]) RETURNING account)
  UPDATE driver_row_count c SET rows = c.rows - g.rows
  FROM (SELECT account, count(*) AS rows FROM gone GROUP BY account) g WHERE c.account = g.account"""
_KEEP = """UPDATE message m SET epoch = m.epoch + $1::bigint FROM outbox o
  WHERE m.account = o.account AND m.id = o.message AND ($2 OR o.due_at > now())"""
_IDENTITY = """SELECT generation, system_identifier AS recorded,
  (SELECT system_identifier FROM pg_control_system()) AS actual FROM cluster_identity"""
_REPOSITION = """UPDATE event e SET xid = pg_current_xact_id(), seq = o.place
  FROM (SELECT tableoid, ctid, row_number() OVER (ORDER BY xid, seq)::int AS place FROM event) o
  WHERE e.tableoid = o.tableoid AND e.ctid = o.ctid"""
_ADOPT = """UPDATE cluster_identity SET generation = generation + 1,
  system_identifier = (SELECT system_identifier FROM pg_control_system()) RETURNING generation"""
