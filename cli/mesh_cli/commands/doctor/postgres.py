"""`mesh doctor`: Postgres: what it is, whether it keeps what it says it stored, and whether it has room."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from rich.filesize import decimal

from mesh_cli.commands.doctor.findings import (
    ANSWER_SECONDS,
    NO_ANSWER,
    Finding,
    fastest,
    good,
    judged,
    measured,
    milliseconds,
    place_of,
    told,
    warning,
    wrong,
)
from mesh_cli.commands.doctor.machine import room_finding
from mesh_cli.plan.layout import DIRECT
from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.migrations import newest_schema
from mesh_core.database.pool import OLDEST_POSTGRES
from mesh_core.process.exposure import is_local
from mesh_core.process.surroundings import MOST_SECONDS_OFF
from mesh_core.sealing import Openness, openness
from mesh_core.settings import DatabaseSettings, SecretsSettings

SUBJECT = "Postgres"
SLOW_SECONDS = (0.02, 0.25)
CLOCK_SECONDS = (1.0, MOST_SECONDS_OFF)
"""How far the clocks may be apart: further, and no part starts."""
FULL = (0.8, 0.95)
HELD_BYTES = (10e9, 100e9)


@dataclass(frozen=True, slots=True)
class Server:
    """What was read of a server. Times are in seconds; `off` is how far our clock is before its clock."""

    version: str
    major: int
    seconds: float
    off: float
    settings: dict[str, str]
    standby: bool
    used: int
    """Connections, of whomever."""
    most: int
    """Connections that it takes of who is no superuser."""


async def check_postgres(
    settings: DatabaseSettings, keys: SecretsSettings, processes: Callable[[], Awaitable[int | None]]
) -> list[Finding]:
    """Ask the server; `processes` says how many of the mesh use it, as far as somebody knows. Whether `keys`
    open what it has is told where there is a master key.
    """
    url = settings.direct_url or settings.url
    at = urlsplit(url)
    place = f"{place_of(url) or 'socket'}{at.path}"
    try:
        connection = await asyncpg.connect(url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        return [wrong(SUBJECT, f"{place} {error}", "Check user, password and database in MESH_DATABASE_URL.")]
    except DATABASE_ERRORS as error:
        return [wrong(SUBJECT, f"{place} {told(error)}", NO_ANSWER)]
    try:
        server = await _server(connection)
        findings = [
            *server_findings(place, server),
            *await _contents(connection, keys),
            *await _slots(connection),
        ]
        findings += connection_findings(server, await processes(), settings.pool_size)
        if (data := server.settings.get("data_directory")) and is_local(at.hostname or ""):
            findings += _disk(Path(data))
    except DATABASE_ERRORS as error:
        return [wrong(SUBJECT, f"{place} {told(error)}", NO_ANSWER)]
    finally:
        connection.terminate()
    return findings if url == settings.url else [*findings, await _pooler(settings.url)]


def server_findings(place: str, server: Server) -> Iterator[Finding]:
    """What is to be said of the server itself."""
    seen = f"{place} {server.version}, an answer {milliseconds(server.seconds)}"
    if server.major < OLDEST_POSTGRES:
        yield wrong(SUBJECT, seen, f"PostgreSQL {OLDEST_POSTGRES} or newer is needed.")
    else:
        yield measured(
            SUBJECT, server.seconds, SLOW_SECONDS, seen, "Every message waits for it: put it near."
        )
    if server.standby:
        yield wrong(SUBJECT, "takes no writes: it is a standby", "MESH_DATABASE_URL must name the primary.")
    for name, harm in _DURABLE.items():
        if server.settings.get(name) == "off":
            yield wrong(SUBJECT, f"{name} is off: {harm}", f"ALTER SYSTEM RESET {name}; and reload.")
    clock = f"our clock is {server.off:+.2f} s from Postgres'"
    yield measured("clock", abs(server.off), CLOCK_SECONDS, clock, "Set both clocks by NTP (chrony).")


def connection_findings(server: Server, processes: int | None, pool: int) -> Iterator[Finding]:
    """Whether there are connections enough, now and for what the parts may take."""
    seen = f"{server.used} of {server.most} connections are used"
    yield measured(SUBJECT, server.used / server.most, FULL, seen, _CONNECTIONS)
    if processes:
        wanted = processes * (pool + DIRECT)
        seen = f"{processes} processes may take {wanted} of {server.most} connections"
        yield warning(SUBJECT, seen, _CONNECTIONS) if wanted > server.most else good(SUBJECT, seen)


def schema_finding(version: int, newest: int) -> Finding:
    """Whether this release's parts start on this schema."""
    seen = f"schema version {version}, this release has {newest}"
    if version > newest:
        return wrong("schema", seen, "Upgrade this release: a newer one has migrated the database.")
    return judged("schema", version == newest, seen, "Run `mesh db migrate`.")


def key_finding(found: Openness) -> Finding:
    """Whether the master keys open the tenants' data keys."""
    seen = f"the master keys open those of {found.tenants - found.closed} of {found.tenants} tenants"
    return judged("keys", not found.closed, seen, _CLOSED)


async def _server(connection: asyncpg.Connection) -> Server:
    seconds = await fastest(partial(connection.fetchval, "SELECT 1"))
    before, sent = time.time(), time.monotonic()
    there = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    took = time.monotonic() - sent
    settings = await connection.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])", _READ
    )
    [row] = await connection.fetch(_STATE)
    version = connection.get_server_version()
    return Server(
        version=f"PostgreSQL {version.major}.{version.minor}",
        major=version.major,
        seconds=seconds,
        off=before + took / 2 - there,
        settings={setting["name"]: setting["setting"] for setting in settings},
        standby=row["standby"],
        used=row["used"],
        most=row["most"],
    )


async def _pooler(url: str) -> Finding:
    """The way through PgBouncer."""
    place = place_of(url)
    try:
        connection = await asyncpg.connect(
            url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS, statement_cache_size=0
        )
        try:
            took = await fastest(partial(connection.fetchval, "SELECT 1"))
        finally:
            connection.terminate()
    except DATABASE_ERRORS as error:
        return wrong("PgBouncer", f"{place} {told(error)}", NO_ANSWER)
    return good("PgBouncer", f"{place} answers in {milliseconds(took)}")


async def _contents(connection: asyncpg.Connection, keys: SecretsSettings) -> list[Finding]:
    """The schema, whose it is, who opens it, and what the role may do with it."""
    known = await connection.fetchval("SELECT to_regclass('alembic_version')")
    version = int(await connection.fetchval("SELECT version_num FROM alembic_version") or 0) if known else 0
    findings = [schema_finding(version, newest_schema())]
    [rights] = await connection.fetch(_RIGHTS)
    if not rights["create"]:
        findings.append(
            warning("rights", "the role may not make tables", "`mesh db migrate` needs a role that may.")
        )
    if rights["forbidden"]:
        seen = f"the role may not read and write {rights['forbidden']} tables, such as {rights['example']}"
        findings.append(wrong("rights", seen, f"GRANT ALL ON ALL TABLES IN SCHEMA {rights['schema']} TO it."))
    if version and await connection.fetchval(_FOREIGN):
        remedy = "Stop whatever uses the original, then run `mesh db adopt`."
        findings.append(wrong("schema", "the database was restored from another server", remedy))
    if version and keys.master_key and not rights["forbidden"]:
        findings.append(key_finding(await openness(connection, keys)))
    return findings


async def _slots(connection: asyncpg.Connection) -> list[Finding]:
    return [
        slot_finding(slot["slot_name"], slot["active"], int(slot["held"] or 0), slot["wal_status"] or "")
        for slot in await connection.fetch(_SLOTS)
    ]


def slot_finding(name: str, active: bool, held: int, status: str) -> Finding:
    """How much of the log a replication slot keeps from being deleted, in bytes."""
    seen = f"slot {name} holds {decimal(held)} of the log{'' if active else ', and nobody reads it'}"
    if status == "lost":
        return wrong(
            SUBJECT, f"slot {name} has lost what it was to keep", "Make its reader anew; drop the slot."
        )
    return measured(
        SUBJECT, held, HELD_BYTES, seen, "Start its reader, or SELECT pg_drop_replication_slot(...)."
    )


def _disk(data: Path) -> Iterator[Finding]:
    try:
        usage = shutil.disk_usage(data)
    except OSError:  # another user's, or another container's
        return
    yield room_finding("Postgres' disk", usage, data)


_DURABLE = {
    "fsync": "what it said it stored is lost when the machine loses power",
    "synchronous_commit": "accepted messages are lost when it crashes",
    "full_page_writes": "its files may be damaged when the machine loses power",
}
_READ = [*_DURABLE, "data_directory"]
_CLOSED = "Set the master key of before, or name it in MESH_SECRETS_PREVIOUS_MASTER_KEYS."
_CONNECTIONS = "Raise max_connections, or put PgBouncer in between (MESH_DATABASE_PGBOUNCER)."
_STATE = """SELECT pg_is_in_recovery() AS standby, (SELECT count(*)::int FROM pg_stat_activity
    WHERE backend_type = 'client backend') AS used,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - current_setting('reserved_connections', true)::int AS most"""
_RIGHTS = """SELECT current_schema() AS schema, has_schema_privilege(current_schema(), 'CREATE') AS create,
  count(*) FILTER (WHERE NOT allowed)::int AS forbidden, min(name) FILTER (WHERE NOT allowed) AS example
  FROM (SELECT relname AS name, has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
      AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE') AS allowed
    FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace) tables"""
_FOREIGN = """SELECT system_identifier <> (SELECT system_identifier FROM pg_control_system())
  FROM cluster_identity"""
_SLOTS = """SELECT slot_name, active, wal_status, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery()
    THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS held
  FROM pg_replication_slots"""
