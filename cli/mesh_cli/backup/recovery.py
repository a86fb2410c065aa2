"""A Postgres of our own on restored files: brings them to the wanted time, where nobody else reaches it."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import asyncpg

from mesh_cli.backup import Damaged, Failed
from mesh_cli.backup.records import Backup
from mesh_cli.backup.source import postgres_program
from mesh_core.database import UNAVAILABLE
from mesh_parent import launcher

OLD_SETTINGS = "postgresql.auto.conf.before-restore"
_PORT = 5432
_POLL_SECONDS = 0.05
_TAIL = 15
STOP_SECONDS = 1800.0
"""What a log of days changed may have to go to a slow disk first."""


def server_user() -> str:
    """Whom Postgres runs as; `-`: as we do."""
    if os.geteuid() != 0:
        return "-"
    return "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"


def hand_over(folder: Path) -> None:
    """Give files to whom Postgres runs as."""
    if (user := server_user()) != "-":
        entry = pwd.getpwnam(user)
        subprocess.run(["chown", "-R", f"{entry.pw_uid}:{entry.pw_gid}", folder], check=True)


def set_old_settings_aside(data: Path) -> bool:
    """Take what was set by ALTER SYSTEM out of force, as OLD_SETTINGS, and return whether there was anything:
    it is of the old machine, such as a standby that each commit waits for, or where the log is archived.
    """
    settings = data / "postgresql.auto.conf"
    if not settings.exists():
        return False
    lines = [line for line in settings.read_text(errors="replace").splitlines() if line.strip()]
    settings.rename(data / OLD_SETTINGS)
    settings.touch(mode=0o600)
    return any(not line.startswith("#") for line in lines)


@asynccontextmanager
async def recovered(backup: Backup, data: Path, log: Path, until: datetime | None) -> AsyncIterator[str]:
    """Brings the files in `data` to the time `until`, else to the end of the log whose files are in `log`,
    and yields the URL of the database on a server that then stops in order. Raises `Damaged` when that time
    is not reached.
    """
    runtime = Path(tempfile.mkdtemp(prefix="mesh-restore-", dir="/tmp"))
    hba, output = runtime / "pg_hba.conf", runtime / "log"
    hba.write_text("local all all trust\n")  # the folder is for the server and us only
    (runtime / "empty.conf").touch()
    output.touch()
    (data / "recovery.signal").touch()
    for folder in (runtime, data, log):
        hand_over(folder)
    settings = {
        "config_file": str(runtime / "empty.conf"),
        "hba_file": str(hba),
        "ident_file": str(runtime / "empty.conf"),
        "listen_addresses": "",
        "unix_socket_directories": str(runtime),
        "port": str(_PORT),
        "archive_mode": "off",
        "primary_conninfo": "",
        "hot_standby": "off",
        "restore_command": f'cp "{log}/%f" "%p"',
        "recovery_target_timeline": "latest",
        "recovery_target_action": "promote",
        "recovery_target_time": until.isoformat() if until else "",
        "max_wal_size": "4GB",
        "shared_buffers": "256MB",
        "logging_collector": "off",
        "log_timezone": "UTC",
        "shared_preload_libraries": "",
    }
    program = str(postgres_program("postgres", backup.server_major))
    death = str(int(signal.SIGQUIT))
    command = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), death, server_user(), program]
    command += [
        "-D",
        str(data),
        *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
    ]
    process = _launch(command, output)
    url = f"postgresql://{quote(backup.role)}@/{quote(backup.database)}?host={runtime}&port={_PORT}"
    try:
        await _until_promoted(process, url, output)
        yield url
        process.send_signal(signal.SIGINT)
        await until_stopped(process, output)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(runtime, ignore_errors=True)


async def last_commit(url: str) -> datetime | None:
    """When the last transaction was committed that the log brought back; None: there was none in it."""
    connection = await asyncpg.connect(url)
    try:
        committed: datetime | None = await connection.fetchval("SELECT pg_last_xact_replay_timestamp()")
        return committed
    finally:
        await connection.close()


async def give_password(url: str, role: str) -> str:
    """Give the role a new password, and return it."""
    password = secrets.token_urlsafe(32)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET scram_iterations = 1")  # nobody guesses 256 random bits
        await connection.execute(f"ALTER ROLE \"{role}\" PASSWORD '{password}'")
    finally:
        await connection.close()
    return password


def _launch(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


async def _until_promoted(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    """However long it takes: a log of days is replayed in minutes or hours."""
    while True:
        if process.poll() is not None:
            words = _words(output)
            if "before configured recovery target was reached" in words:
                raise Damaged(
                    "the log that was stored ends before the time of --until: give an earlier time, or "
                    f"none for all there is. {_last_time(words)}"
                )
            raise Failed(f"the database cannot be recovered: {_tail(output)}")
        try:
            connection = await asyncpg.connect(url, timeout=5)
        except UNAVAILABLE:  # not yet, or it ends just now
            await asyncio.sleep(_POLL_SECONDS)
            continue
        await connection.close()
        return


async def until_stopped(process: subprocess.Popen[bytes], output: Path) -> None:
    """It writes what was brought back to the disk first. Raises `Failed`."""
    try:
        status = await asyncio.to_thread(process.wait, STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"the database did not stop within {STOP_SECONDS:.0f} s: {_tail(output)}") from None
    if status != 0:
        raise Failed(f"the database did not stop in order: {_tail(output)}")


def _last_time(words: str) -> str:
    lines = [line for line in words.splitlines() if "last completed transaction was at log time" in line]
    return f"The last commit in it was at {lines[-1].rpartition('log time ')[2]}." if lines else ""


def _words(output: Path) -> str:
    return output.read_text(errors="replace")


def _tail(output: Path) -> str:
    return "\n" + "\n".join(_words(output).splitlines()[-_TAIL:])
