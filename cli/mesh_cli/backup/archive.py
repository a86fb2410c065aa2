"""Follows the log of a database: whatever it writes is stored seconds later, as long as this runs.

pg_receivewal receives into a folder; what is there is stored encrypted, whole segments once and the last one
again whenever it has grown. The server keeps what is not stored, also while nobody follows.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from mesh_cli.backup import Failed
from mesh_cli.backup.key_file import check_recipient
from mesh_cli.backup.log_files import PARTIAL, SUFFIX, folder_of_log, is_history, is_whole, place, stored_log
from mesh_cli.backup.records import Backup
from mesh_cli.backup.repository import Repository
from mesh_cli.backup.settings import ArchiveSettings
from mesh_cli.backup.slot import LOST, make_slots, stored_until
from mesh_cli.backup.source import client_address, held_source, postgres_program
from mesh_cli.backup.streams import CHUNK_BYTES, Bytes, sealed
from mesh_core.database.watch import RECEIVER_SLOT
from mesh_parent import launcher

PARTIAL_SECONDS = 5.0
"""How old what is stored of the last segment may be."""
PATIENCE_SECONDS = 600.0
"""How long what was received waits for a place that takes nothing; then the server alone has it."""
_POLL_SECONDS = 0.5
Say = Callable[[str], None]


async def follow(settings: ArchiveSettings, say: Say) -> None:
    """Runs until cancelled. Raises `BackupError` when a backup must be made before it is of use again."""
    check_recipient(settings.backup.recipient)
    url = settings.database.direct_url or settings.database.url
    async with held_source(url, "archive") as (_, facts):
        repository = await Repository.open(settings.backup)
        backups = (await repository.backups_of(facts.system_identifier, settings.backup.recipient)).whole
        program = str(postgres_program("pg_receivewal", facts.major))
    folder = Path(tempfile.mkdtemp(prefix="sessionmesh-log-"))  # of this user only
    follower = _Follower(repository, url, settings.backup.recipient, facts.system_identifier, folder, say)
    address, environment = client_address(url)
    common = (f"--dbname={address}", "--no-password", f"--slot={RECEIVER_SLOT}")
    try:
        await make_slots(url)
        await follower.begin(backups)
        process = await _started(program, environment, *common, f"--directory={folder}", "--no-loop")
        say("following the log")
        try:
            await follower.run(process)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            with suppress(Failed, OSError):  # what came since the last look
                await follower.look(all_of_it=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Follower:
    def __init__(
        self,
        repository: Repository,
        url: str,
        recipient: str,
        system: int,
        folder: Path,
        say: Say,
    ) -> None:
        self._repository = repository
        self._url = url
        self._recipient = recipient
        self._system = system
        self._folder = folder
        self._say = say
        self._newest = -1
        self._stored = self._told = ""
        self._checked = False
        self._written: tuple[str, int] = ("", 0)
        self._partial_at = 0.0
        self._failing_since: float | None = None

    async def begin(self, backups: Sequence[Backup]) -> None:
        """What was stored before: a log, or at least what is in the last backup."""
        log = await stored_log(self._repository, self._system, "0" * 24)
        before = place(backups[-1].wal_from) if backups else -1
        self._newest = max((place(name) for name in log if not is_history(name)), default=before)

    async def run(self, process: asyncio.subprocess.Process) -> None:
        ended = asyncio.create_task(process.wait(), name="pg_receivewal")
        assert process.stderr is not None  # noqa: S101 - it is piped
        while not ended.done():
            await asyncio.wait({ended}, timeout=_POLL_SECONDS)
            await self._look_patiently()
        words = (await process.stderr.read()).decode(errors="replace").strip()
        if "has already been removed" in words or "invalidated" in words:
            raise Failed(f"{LOST}. It said: {words}")
        raise Failed(f"pg_receivewal ended with status {process.returncode}: {words}")

    async def _look_patiently(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            await self.look()
        except Failed as error:
            if self._failing_since is None:
                self._failing_since = now
                self._say(f"{error}; what is received meanwhile waits in {self._folder}")
            elif now - self._failing_since > PATIENCE_SECONDS:
                raise
        else:
            self._failing_since = None

    async def look(self, *, all_of_it: bool = False) -> None:
        """Store what is new."""
        files = sorted(await asyncio.to_thread(lambda: [*self._folder.iterdir()]))
        for file in files:
            if is_whole(file.name):
                self._check_gap(file.name)
                await self._store(file, file.name)
                if not is_history(file.name):
                    self._stored = file.name
                file.unlink()
                await self._repository.delete(self._name(f"{file.name}{PARTIAL}"))
        now = asyncio.get_running_loop().time()
        for file in files:
            if file.suffix != PARTIAL or not (all_of_it or now - self._partial_at >= PARTIAL_SECONDS):
                continue
            self._check_gap(file.name)
            try:
                state = (file.name, file.stat().st_mtime_ns)
                if state != self._written:
                    await self._store(file, file.name)
                    self._written, self._partial_at = state, now
            except FileNotFoundError:
                continue  # it is whole now
        if self._stored != self._told:  # last: a server that does not hear of it holds up nothing
            await stored_until(self._url, self._stored)
            self._told = self._stored

    def _check_gap(self, name: str) -> None:
        if self._checked or is_history(name):
            return
        self._checked = True
        if 0 <= self._newest < place(name) - 1:
            self._say(
                "a part of the log is missing before what is received now: run `mesh backup run` now; until "
                "then nothing later than the missing part can be restored"
            )

    async def _store(self, file: Path, name: str) -> None:
        await self._repository.store(self._name(name), sealed(_file(file), self._recipient))

    def _name(self, file: str) -> str:
        return f"{folder_of_log(self._system)}{file}{SUFFIX}"


async def _file(place: Path) -> Bytes:
    with place.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


async def _started(program: str, environment: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    # It ends with us, however we end: the slot is for one follower at a time.
    tied = (sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), str(int(signal.SIGTERM)), "-")
    return await asyncio.create_subprocess_exec(
        *tied,
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
