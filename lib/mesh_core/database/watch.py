"""What a process shows of Postgres: its pool, its clock beside the server's, and the server as a whole."""

from __future__ import annotations

import asyncio
import time

import structlog

from mesh_core.database.bounded_pool import BoundedPool
from mesh_core.database.unavailable import DATABASE_ERRORS
from mesh_core.metrics import gauge, gauges

logger = structlog.get_logger(__name__)

WATCH_SECONDS = 15.0
BACKUP_SLOT = "sessionmesh_backup"
"""The replication slot that has the server keep what `mesh backup follow` has not stored yet."""
RECEIVER_SLOT = "sessionmesh_backup_receiver"
"""The one that it receives by."""


def show_pool(pool: BoundedPool) -> None:
    """Show this pool from now on."""
    _POOL.labels("idle").set_function(pool.get_idle_size)
    _POOL.labels("used").set_function(lambda: pool.get_size() - pool.get_idle_size())
    _POOL_MAX.set(pool.get_max_size())
    _POOL_WAITING.set_function(lambda: pool.waiting)


async def watch(pool: BoundedPool, *, server: bool = False) -> None:
    """Compare the clocks every 15 s until it is cancelled; with `server`, look at the server, too."""
    while True:
        try:
            before, sent = time.time(), time.monotonic()
            there = await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
            _SKEW.set(before + (time.monotonic() - sent) / 2 - there)
            if server:
                [row] = await pool.fetch(_SERVER, BACKUP_SLOT, RECEIVER_SLOT)
                _BACKUP_RETAINED.set(row["retained"])
                _BACKUP_UNFOLLOWED.set(row["unfollowed"])
                _CONNECTIONS.set(row["used"])
                _CONNECTIONS_MAX.set(row["most"])
                _OLDEST.set(row["oldest"])
                _XMIN.set(row["xmin"])
        except DATABASE_ERRORS as error:  # what is shown stays as it was; other metrics say that it is away
            logger.debug("Postgres cannot be looked at", error=repr(error))
        await asyncio.sleep(WATCH_SECONDS)


async def unready(pool: BoundedPool) -> str:
    """Why work with Postgres is not possible now; "" when it is."""
    try:
        await pool.fetchval("SELECT 1")
    except DATABASE_ERRORS:
        return "Postgres does not answer"
    return ""


_POOL = gauges(
    "mesh_database_pool_connections",
    "Connections of this process' pool.",
    answers="Does the process have connections enough?",
    state=("idle", "used"),
)
_POOL_MAX = gauge(
    "mesh_database_pool_max_connections",
    "How many its pool may have.",
    answers="How near is the pool to its end?",
)
_POOL_WAITING = gauge(
    "mesh_database_pool_waiting",
    "Statements that wait for a connection of the pool.",
    answers="Does the process have connections enough?",
)
_SKEW = gauge(
    "mesh_clock_skew_seconds",
    "How far this machine's clock is before that of Postgres; below 0: behind it.",
    answers="Do the clocks agree?",
)
_CONNECTIONS = gauge(
    "mesh_database_connections",
    "Connections to Postgres, of whomever.",
    answers="How near is Postgres to where it takes no more?",
)
_CONNECTIONS_MAX = gauge(
    "mesh_database_max_connections",
    "Connections that Postgres takes of who is no superuser.",
    answers="How near is Postgres to where it takes no more?",
)
_OLDEST = gauge(
    "mesh_database_oldest_transaction_seconds",
    "For how long the oldest transaction has been open.",
    answers="What keeps readers of events from going on?",
)
_XMIN = gauge(
    "mesh_database_xmin_age_transactions",
    "Transactions since the oldest one that somebody may still look at: connections, slots, prepared ones.",
    answers="What keeps Postgres from cleaning up?",
)
_BACKUP_RETAINED = gauge(
    "mesh_database_backup_retained_bytes",
    "What the server keeps of its log because `mesh backup follow` has not stored it; 0 without one.",
    answers="Will a backup that is not made fill Postgres' disk?",
)
_BACKUP_UNFOLLOWED = gauge(
    "mesh_database_backup_unfollowed",
    "1 while the log is kept for a `mesh backup follow` that does not run, else 0.",
    answers="Does somebody store the log?",
)
_SERVER = """SELECT count(*) AS used,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - current_setting('reserved_connections')::int AS most,
  coalesce(extract(epoch FROM clock_timestamp()
    - min(xact_start) FILTER (WHERE pid <> pg_backend_pid())), 0)::float8 AS oldest,
  greatest(coalesce(max(age(backend_xmin)), 0),
    (SELECT coalesce(max(greatest(age(xmin), age(catalog_xmin))), 0) FROM pg_replication_slots),
    (SELECT coalesce(max(age(transaction)), 0) FROM pg_prepared_xacts)) AS xmin,
  (SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)), 0)::float8
    FROM pg_replication_slots WHERE slot_name = $1) AS retained,
  (EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)
    AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $2 AND active))::int AS unfollowed
  FROM pg_stat_activity WHERE backend_type = 'client backend'"""
"""Of others' connections only a user with `pg_read_all_stats` sees more than that they are there."""
