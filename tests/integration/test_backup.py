"""Backups of a real database: what they have, what restores them, and what is refused, with its exit code."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg
import msgspec
import pyrage
import pytest
import pytest_asyncio
from typer.testing import Result

from mesh_cli.backup import Refused, making
from mesh_cli.backup.archive import follow
from mesh_cli.backup.log_files import is_whole
from mesh_cli.backup.records import decoded, encoded
from mesh_cli.backup.recovery import OLD_SETTINGS
from mesh_cli.backup.settings import ArchiveSettings, settings_from
from mesh_cli.backup.verifying import unbroken
from mesh_cli.embedded import EmbeddedPostgres
from mesh_cli.up.state import Secrets, StateDirectory
from mesh_core.database.migrations import migrate
from mesh_core.database.watch import BACKUP_SLOT
from mesh_core.errors import FailedPrecondition
from tests.support.eventually import eventually
from tests.support.mesh_process import run_mesh_here

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
REFUSED, DAMAGED, FAILED = 78, 65, 74
SECRETS = Secrets("smadmin_x", "smmesh_x", "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=")


@dataclass(frozen=True, slots=True)
class Place:
    """A mesh's servers, as a folder and as environment, and the key file of its backups."""

    folder: Path
    url: str
    recipient: str

    @property
    def key(self) -> Path:
        return self.folder / "key.json"

    @property
    def repository(self) -> Path:
        return self.folder / "backups"

    def environment(self, repository: Path | None = None) -> dict[str, str]:
        return {
            "MESH_DATABASE_URL": self.url,
            "MESH_OBJECTS_URL": (self.folder / "objects").as_uri(),
            "MESH_BACKUP_URL": (repository or self.repository).as_uri(),
            "MESH_BACKUP_RECIPIENT": self.recipient,
        }

    async def run(self, *command: str, repository: Path | None = None, **more: str) -> Result:
        """One command, in this process."""
        environment = self.environment(repository) | more
        return await asyncio.to_thread(
            run_mesh_here, "--state", str(self.folder / "none"), *command, **environment
        )

    async def restore(self, state: Path, *options: str, repository: Path | None = None) -> Result:
        """`mesh restore` into a state directory, with the key."""
        environment = self.environment(repository) | {"MESH_OBJECTS_URL": "", "MESH_DATABASE_URL": ""}
        command = ("--state", str(state), "restore", "--key", str(self.key), *options)
        return await asyncio.to_thread(run_mesh_here, *command, **environment)

    async def execute(self, query: str) -> None:
        await _on(self.url, query)

    async def write_segment(self) -> None:
        """There is a whole segment of the log more."""
        await self.execute("INSERT INTO proof VALUES ('more')")
        await self.execute("SELECT pg_switch_wal()")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A server with a mesh's schema and a file, and one backup of both."""
    folder = Path(await asyncio.to_thread(tmp_path_factory.mktemp, "backup"))
    for parent in (folder, *folder.parents):  # Postgres runs as another user than root
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    state = StateDirectory(folder / "mesh")
    (folder / "mesh").mkdir()
    state.keep(SECRETS)
    (folder / "objects" / "a").mkdir(parents=True)
    (folder / "objects" / "a" / "photo").write_bytes(b"a photo" * 1000)
    server = EmbeddedPostgres(folder)
    url = await server.start()
    await migrate(url)
    made = await asyncio.to_thread(
        run_mesh_here, "--state", str(folder / "mesh"), "backup", "key", str(folder / "key.json")
    )
    made_place = Place(folder, url, made.stdout.strip())
    await made_place.execute("CREATE TABLE proof (word text)")
    await made_place.execute("ALTER SYSTEM SET archive_command = 'of the old machine'")
    backed_up = await made_place.run("backup", "run")
    assert backed_up.exit_code == 0, backed_up.stderr
    yield made_place
    await server.stop()


@pytest.fixture
def copy(place: Place, tmp_state: Path) -> Path:
    """The backups as they were first, for a test of its own."""
    return Path(shutil.copytree(place.repository, tmp_state / "copy"))


@pytest.fixture
def small_disk(tmp_state: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of two megabytes."""
    folder = tmp_state / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, and the right to mount a tmpfs: NOTHING of full disks is tested here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@asynccontextmanager
async def followed(
    place: Place, repository: Path, url: str, say: Callable[[str], None] = lambda _step: None
) -> AsyncIterator[None]:
    """The log is stored as it is written; in the end all of it is."""
    steps: list[str] = []
    environment = place.environment(repository) | {"MESH_DATABASE_URL": url}
    settings = settings_from(ArchiveSettings, environment)

    def told(step: str) -> None:
        steps.append(step)
        say(step)

    task = asyncio.create_task(follow(settings, told))
    await eventually(lambda: bool(steps) or task.done(), what="following the log")
    [before] = await _on(url, "SELECT pg_walfile_name(pg_current_wal_lsn()) AS segment")
    yield
    await _on(url, "SELECT pg_switch_wal()")
    segment = f"wal/*/{before['segment']}.gz.age"
    await eventually(lambda: found(repository, segment), what="a segment")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def put_before(file: Path, lines: str) -> Iterator[None]:
    """A file begins with these lines."""
    before = file.read_text()
    file.write_text(f"{lines}{before}")
    yield
    file.write_text(before)


def found(folder: Path, pattern: str) -> list[Path]:
    return [*folder.glob(pattern)]


async def words_of(state: Path) -> list[str]:
    """What `proof` has in a restored state directory."""
    server = EmbeddedPostgres(state)
    try:
        return [row["word"] for row in await _on(await server.start(), "SELECT word FROM proof ORDER BY 1")]
    finally:
        await server.stop()


def stored_segments(repository: Path) -> list[str]:
    names = sorted(file.name.removesuffix(".gz.age") for file in found(repository, "wal/*/*"))
    return [name for name in names if is_whole(name)]


def restored_until(ended: Result) -> datetime:
    return datetime.fromisoformat(ended.stdout.partition("as of ")[2].partition(": ")[0])


async def _on(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def test_what_was_committed_after_the_backup_comes_back_with_the_log(
    place: Place, copy: Path, tmp_state: Path
) -> None:
    async with followed(place, copy, place.url):
        await place.execute("INSERT INTO proof VALUES ('early')")
        [between] = await _on(place.url, "SELECT clock_timestamp() AS now")
        await place.execute("INSERT INTO proof VALUES ('late')")
    moment: datetime = between["now"]
    everything = await place.restore(tmp_state / "all", repository=copy)
    assert everything.exit_code == 0, everything.stderr
    assert await words_of(tmp_state / "all") == ["early", "late"]
    assert restored_until(everything) > moment
    assert (tmp_state / "all" / "objects" / "a" / "photo").read_bytes() == b"a photo" * 1000
    assert StateDirectory(tmp_state / "all").secrets() == SECRETS

    a_part = await place.restore(tmp_state / "part", "--until", moment.isoformat(), repository=copy)
    assert a_part.exit_code == 0, a_part.stderr
    assert await words_of(tmp_state / "part") == ["early"]
    assert restored_until(a_part) < moment

    too_late = await place.restore(tmp_state / "late", "--until", "2199-01-01T00:00:00Z", repository=copy)
    assert too_late.exit_code == DAMAGED, too_late.stderr
    assert "the log that was stored ends before the time of --until" in too_late.stderr
    assert "The last commit in it was at" in too_late.stderr


async def test_what_a_restored_database_wrote_comes_back_too(
    place: Place, copy: Path, tmp_state: Path
) -> None:
    assert (await place.restore(tmp_state / "first", repository=copy)).exit_code == 0
    server = EmbeddedPostgres(tmp_state / "first")
    url = await server.start()
    async with followed(place, copy, url):
        await _on(url, "INSERT INTO proof VALUES ('in its second life')")
    await server.stop()
    again = await place.restore(tmp_state / "second", repository=copy)
    assert again.exit_code == 0, again.stderr
    assert "under generation 3" in again.stdout
    assert await words_of(tmp_state / "second") == ["in its second life"]


async def test_what_was_received_while_the_place_took_nothing_is_stored_afterwards(
    place: Place, copy: Path
) -> None:
    said: list[str] = []
    async with followed(place, copy, place.url, said.append):
        await place.write_segment()
        await eventually(lambda: stored_segments(copy), what="a segment")
        before = len(stored_segments(copy))
        (copy / "wal").rename(copy / "aside")
        (copy / "wal").touch()  # where no folder can be made
        await place.write_segment()
        await eventually(lambda: any("waits in" in one for one in said), what="an outage")
        (copy / "wal").unlink()
        (copy / "aside").rename(copy / "wal")
        await place.write_segment()
        await eventually(lambda: len(stored_segments(copy)) >= before + 2, what="two more segments")
    assert unbroken(stored_segments(copy)) == len(stored_segments(copy))


async def test_what_a_follower_received_and_never_stored_is_received_by_the_next_one(
    place: Place, copy: Path
) -> None:
    said: list[str] = []
    async with followed(place, copy, place.url):
        await place.write_segment()
    settings = settings_from(ArchiveSettings, place.environment(copy))
    (copy / "wal").rename(copy / "aside")
    (copy / "wal").touch()  # where no folder can be made
    task = asyncio.create_task(follow(settings, said.append))
    await eventually(lambda: any("following" in one for one in said), what="following the log")
    await place.write_segment()
    await eventually(lambda: any("waits in" in one for one in said), what="an outage")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kept = (
        "SELECT restart_lsn < pg_current_wal_lsn() AS some FROM pg_replication_slots WHERE slot_name = '{}'"
    )
    assert (await _on(place.url, kept.format(BACKUP_SLOT)))[0]["some"]
    (copy / "wal").unlink()
    (copy / "aside").rename(copy / "wal")
    async with followed(place, copy, place.url):
        await place.write_segment()
    assert unbroken(stored_segments(copy)) == len(stored_segments(copy)) >= 3


async def test_the_server_hears_of_what_is_stored_also_when_it_has_ended_idle_connections(
    place: Place, copy: Path
) -> None:
    others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
    kept = (
        "SELECT pg_walfile_name(restart_lsn) AS first, pg_walfile_name(pg_current_wal_lsn()) AS now "
        f"FROM pg_replication_slots WHERE slot_name = '{BACKUP_SLOT}'"
    )

    async def all_is_let_go() -> bool:
        [slot] = await _on(place.url, kept)
        return bool(slot["first"] >= before["now"])

    async with followed(place, copy, place.url):
        await place.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        await place.write_segment()
        [before] = await _on(place.url, kept)
        await eventually(all_is_let_go, what="the slot to go on")


async def test_two_do_not_follow_at_once(place: Place, copy: Path) -> None:
    settings = settings_from(ArchiveSettings, place.environment(copy))
    async with followed(place, copy, place.url):
        with pytest.raises(Refused, match="another follow of this database is running"):
            await follow(settings, lambda _step: None)
        await place.write_segment()


async def test_a_log_that_begins_after_the_backup_is_told(place: Place, copy: Path) -> None:
    async def no_slot() -> bool:
        await place.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"
        )
        return not await _on(place.url, "SELECT FROM pg_replication_slots")

    await eventually(no_slot)
    for _ in range(3):
        await place.write_segment()
    await place.execute("CHECKPOINT")  # a new slot keeps the log from here on
    said: list[str] = []
    async with followed(place, copy, place.url, said.append):
        pass
    assert any("a part of the log is missing" in one for one in said)


async def test_backups_for_another_key_are_made_elsewhere(place: Place, copy: Path) -> None:
    other = str(pyrage.x25519.Identity.generate().to_public())
    ended = await place.run("backup", "run", repository=copy, MESH_BACKUP_RECIPIENT=other)
    assert ended.exit_code == REFUSED
    assert "has backups for another key" in ended.stderr
    environment = place.environment(copy) | {"MESH_BACKUP_RECIPIENT": other}
    with pytest.raises(Refused, match="has backups for another key"):
        await follow(settings_from(ArchiveSettings, environment), lambda _step: None)


async def test_a_backup_is_verified_with_all_it_has(place: Place, copy: Path) -> None:
    ended = await place.run("backup", "verify", "--key", str(place.key), "--json", repository=copy)
    assert ended.exit_code == 0, ended.stderr
    verified = msgspec.json.decode(ended.stdout)
    assert verified["files"] > 1000
    assert verified["objects"] == 1


@pytest.mark.parametrize("damaged", ["base.tar.gz.age", "objects.txt", "backup.json", "objects/*/*.age"])
async def test_a_damaged_file_is_named_and_nothing_is_restored_from_it(
    place: Place, copy: Path, tmp_state: Path, damaged: str
) -> None:
    [file] = found(copy, damaged if "/" in damaged else f"backups/*/{damaged}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    name = str(file.relative_to(copy))
    verified = await place.run("backup", "verify", "--key", str(place.key), repository=copy)
    assert (verified.exit_code, name in verified.stderr) == (DAMAGED, True), verified.stderr
    restored = await place.restore(tmp_state / "new", repository=copy)
    assert (restored.exit_code, name in restored.stderr) == (DAMAGED, True), restored.stderr
    assert not (tmp_state / "new" / "postgres" / "data").exists()


async def test_a_missing_file_is_named(place: Place, copy: Path) -> None:
    [file] = found(copy, "backups/*/base.tar.gz.age")
    file.unlink()
    verified = await place.run("backup", "verify", "--key", str(place.key), repository=copy)
    assert verified.exit_code == DAMAGED
    assert f"{file.relative_to(copy)} is missing" in verified.stderr


async def test_a_restore_that_did_not_end_is_no_mesh_and_is_begun_anew(
    place: Place, copy: Path, tmp_state: Path
) -> None:
    [file] = found(copy, "backups/*/base.tar.gz.age")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert (await place.restore(tmp_state / "new", repository=copy)).exit_code == DAMAGED
    with pytest.raises(FailedPrecondition, match=r"a restore into .* did not end: run `mesh restore` again"):
        StateDirectory(tmp_state / "new").take()
    file.write_bytes(whole)
    again = await place.restore(tmp_state / "new", repository=copy)
    assert again.exit_code == 0, again.stderr
    state = StateDirectory(tmp_state / "new")
    state.take()
    state.release()


async def test_another_key_is_refused(place: Place, copy: Path, tmp_state: Path) -> None:
    other = tmp_state / "other.json"
    await place.run("backup", "key", str(other))
    command = ("restore", "--key", str(other), "--data", str(tmp_state / "d"))
    ended = await place.run(*command, repository=copy, MESH_SECRETS_MASTER_KEY=SECRETS.master_key)
    assert ended.exit_code == REFUSED
    assert "was encrypted for age1" in ended.stderr
    assert not (tmp_state / "d").exists()


@pytest.mark.parametrize("change", [{"format": 2}, {"schema_version": 9999}], ids=str)
async def test_a_backup_of_a_newer_release_is_refused(
    place: Place, copy: Path, tmp_state: Path, change: Mapping[str, int]
) -> None:
    [record] = found(copy, "backups/*/backup.json")
    made = decoded(record.read_bytes(), record.name)
    record.write_bytes(encoded(msgspec.structs.replace(made, mesh_version="9.0", **change)))
    ended = await place.restore(tmp_state / "new", repository=copy)
    assert ended.exit_code == REFUSED
    assert "made by Sessionmesh 9.0" in ended.stderr


async def test_a_state_directory_with_a_mesh_is_refused_and_stays(place: Place, tmp_state: Path) -> None:
    state = StateDirectory(tmp_state / "mesh")
    state.take()
    secrets = state.secrets()
    running = await place.restore(tmp_state / "mesh")
    assert running.exit_code == FAILED
    assert "in use by another running mesh" in running.stderr
    state.release()
    stopped = await place.restore(tmp_state / "mesh")
    assert stopped.exit_code == REFUSED
    assert "has a mesh already (secrets.json)" in stopped.stderr
    assert state.secrets() == secrets


async def test_a_disk_that_fills_leaves_no_backup(
    place: Place, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = await place.run("backup", "run", repository=small_disk)
    assert refused.exit_code == REFUSED
    assert "make room" in refused.stderr
    monkeypatch.setattr(making, "_refuse_small_disk", lambda _url, _facts: None)
    full = await place.run("backup", "run", repository=small_disk)
    assert full.exit_code == FAILED
    assert "the disk of the object store is full" in full.stderr
    listed = await place.run("backup", "list", "--json", repository=small_disk)
    assert (listed.exit_code, listed.stdout) == (0, "")


async def test_a_role_that_may_not_replicate_is_told_what_to_grant(place: Place, tmp_state: Path) -> None:
    await place.execute("CREATE ROLE modest LOGIN PASSWORD 'x'")
    url = place.url.replace(place.url.split("//")[1].split("@")[0], "modest:x")
    ended = await place.run("backup", "run", repository=tmp_state / "new", MESH_DATABASE_URL=url)
    assert ended.exit_code == REFUSED
    assert "ALTER ROLE modest REPLICATION" in ended.stderr


async def test_a_server_that_lets_nobody_replicate_is_told_before_anything_is_stored(
    place: Place, tmp_state: Path
) -> None:
    [row] = await _on(place.url, "SELECT setting AS hba FROM pg_settings WHERE name = 'hba_file'")
    rules = "local replication all reject\nhost replication all all reject\n"
    with put_before(Path(row["hba"]), rules):
        await place.execute("SELECT pg_reload_conf()")
        ended = await place.run("backup", "run", repository=tmp_state / "new")
    await place.execute("SELECT pg_reload_conf()")
    assert (ended.exit_code, "allow it in pg_hba.conf" in ended.stderr) == (REFUSED, True), ended.stderr
    assert not found(tmp_state / "new", "*")


async def test_backups_of_two_databases_do_not_mix(place: Place, copy: Path) -> None:
    [record] = found(copy, "backups/*/backup.json")
    made = decoded(record.read_bytes(), record.name)
    record.write_bytes(encoded(msgspec.structs.replace(made, system_identifier=42)))
    ended = await place.run("backup", "run", repository=copy)
    assert ended.exit_code == REFUSED
    assert "has backups of another database" in ended.stderr


async def test_what_no_backup_needs_goes_with_the_last_that_did(place: Place, copy: Path) -> None:
    [first] = found(copy, "backups/*")
    (copy / "objects" / "zz").mkdir()
    (copy / "objects" / "zz" / "left.gz.age").touch()
    (copy / "backups" / "interrupted").mkdir()
    (copy / "backups" / "interrupted" / "base.tar.gz.age").touch()
    ended = await place.run("backup", "run", "--keep-daily", "1", "--keep-weekly", "0", repository=copy)
    assert ended.exit_code == 0, ended.stderr
    assert f"Backup {first.name} is deleted." in ended.stdout
    [record] = found(copy, "backups/*/*.json")
    assert record.parent.name != first.name
    assert len(found(copy, "backups/*/*")) == 3
    assert len(found(copy, "objects/*/*")) == 1


async def test_a_data_directory_is_made_for_a_server_of_ones_own(
    place: Place, copy: Path, tmp_state: Path
) -> None:
    data = tmp_state / "server" / "data"
    ended = await place.run(
        "restore",
        "--key",
        str(place.key),
        "--data",
        str(data),
        repository=copy,
        MESH_OBJECTS_URL=(tmp_state / "files").as_uri(),
    )
    assert ended.exit_code == 0, ended.stderr
    assert (data / "PG_VERSION").exists()
    assert not (data / "recovery.signal").exists()
    assert "archive_command" not in (data / "postgresql.auto.conf").read_text()
    assert "of the old machine" in (data / OLD_SETTINGS).read_text()
    assert OLD_SETTINGS in ended.stderr
    assert (tmp_state / "files" / "a" / "photo").exists()
    again = await place.run("restore", "--key", str(place.key), "--data", str(data), repository=copy)
    assert again.exit_code == REFUSED
