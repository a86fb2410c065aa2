"""What backups are made of: encrypted streams, names of the log, records, and the rule of what is kept."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_cli.backup import Damaged, Failed, Refused, recovery
from mesh_cli.backup.log_files import is_whole, place, read_log, stored_log
from mesh_cli.backup.objects import put_back
from mesh_cli.backup.policy import Policy
from mesh_cli.backup.records import Backup, StoredFile, decoded, encoded
from mesh_cli.backup.recovery import OLD_SETTINGS, set_old_settings_aside
from mesh_cli.backup.repository import Backups, Repository
from mesh_cli.backup.restoring import choose
from mesh_cli.backup.source import client_address
from mesh_cli.backup.streams import CHUNK_BYTES, Bytes, of_bytes, opened, sealed
from mesh_cli.backup.verifying import unbroken
from mesh_core.settings import StoreSettings
from mesh_media.stores.directory import Directory
from mesh_media.stores.named_stores import Stores
from mesh_media.stores.object_store import Source
from mesh_media.stores.obstore_objects import MOST_PARTS, PART_BYTES, part_bytes

KEY = pyrage.x25519.Identity.generate()
RECIPIENT, IDENTITY = str(KEY.to_public()), str(KEY)
SEGMENT = "0000000100000000000000AB"
WHOLE_KEY, PARTIAL_KEY = f"wal/7/{SEGMENT}.gz.age", f"wal/7/{SEGMENT}.partial.gz.age"
NOON = datetime(2031, 5, 4, 12, tzinfo=UTC)


async def whole(chunks: Bytes) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def at(folder: Path) -> Repository:
    return await Repository.open(StoreSettings(url=folder.as_uri()))


async def broken() -> Bytes:
    yield b"the beginning"
    raise ConnectionError("the server has gone")


def backup(end: datetime) -> Backup:
    file = StoredFile("backups/x/base.tar.gz.age", 1, "00")
    return Backup(
        id=end.strftime("%Y%m%dT%H%M"),
        begin_time=end - timedelta(minutes=1),
        end_time=end,
        mesh_version="0.1.0",
        schema_version=22,
        server_version="18.4",
        system_identifier=7,
        generation=1,
        database="sessionmesh",
        role="sessionmesh",
        database_bytes=1,
        master_keys=(),
        recipient=RECIPIENT,
        wal_from="0" * 24,
        base=file,
        objects=file,
        object_count=0,
        object_bytes=0,
    )


def days(count: int) -> list[Backup]:
    """Two backups of each day, the oldest first."""
    ends = (NOON - timedelta(days=n // 2, hours=6 * (n % 2)) for n in range(2 * count))
    return [backup(end) for end in sorted(ends)]


def undamaged(backups: list[Backup]) -> Backups:
    return Backups(tuple(backups), ())


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("postgresql://mesh:a%40secret@db:5432/mesh", "postgresql://mesh@db:5432/mesh"),
        (
            "postgresql://mesh:a@secret@one,two/mesh?sslmode=require",
            "postgresql://mesh@one,two/mesh?sslmode=require",
        ),
        (
            "postgresql://mesh@db/mesh?password=a%40secret&sslmode=require",
            "postgresql://mesh@db/mesh?sslmode=require",
        ),
        ("postgresql:///mesh?host=/run&password=a%40secret", "postgresql:///mesh?host=/run"),
    ],
)
def test_programs_get_the_password_where_other_users_do_not_see_it(url: str, address: str) -> None:
    shown, environment = client_address(url)
    assert (shown, environment["PGPASSWORD"]) == (address, "a@secret")


async def test_a_database_that_does_not_stop_fails_the_restore_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "STOP_SECONDS", 0.1)
    output = tmp_path / "log"
    output.write_text("checkpoint starting")
    process = await asyncio.to_thread(subprocess.Popen, ["sleep", "60"])
    try:
        with pytest.raises(Failed, match="did not stop within 0 s: \ncheckpoint starting"):
            await recovery.until_stopped(process, output)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


class TestStreams:
    @pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
    async def test_what_was_sealed_opens(self, size: int) -> None:
        content = bytes(n % 251 for n in range(size))
        stored = await whole(sealed(of_bytes(content), RECIPIENT))
        assert await whole(opened(of_bytes(stored), IDENTITY, "base")) == content

    async def test_what_is_stored_is_an_age_file(self) -> None:
        stored = await whole(sealed(of_bytes(b"words"), RECIPIENT))
        assert stored.startswith(b"age-encryption.org/v1\n")
        assert b"words" not in stored

    @given(at=st.floats(0, 1, exclude_max=True), cut=st.booleans())
    async def test_any_damage_is_noticed(self, at: float, cut: bool) -> None:
        stored = bytearray(await whole(sealed(of_bytes(b"words" * 10_000), RECIPIENT)))
        place = int(at * len(stored))
        if cut:
            del stored[place:]
        else:
            stored[place] ^= 1
        with pytest.raises(Damaged, match="base"):
            await whole(opened(of_bytes(bytes(stored)), IDENTITY, "base"))

    async def test_another_key_is_told(self) -> None:
        stored = await whole(sealed(of_bytes(b"words"), RECIPIENT))
        other = str(pyrage.x25519.Identity.generate())
        with pytest.raises(Damaged, match="base was encrypted for another key"):
            await whole(opened(of_bytes(stored), other, "base"))

    async def test_a_source_that_fails_fails_the_stream_with_its_error(self) -> None:
        with pytest.raises(ConnectionError, match="the server has gone"):
            await whole(sealed(broken(), RECIPIENT))
        with pytest.raises(ConnectionError, match="the server has gone"):
            await whole(opened(broken(), IDENTITY, "base"))

    async def test_a_stream_that_nobody_reads_to_its_end_ends(self) -> None:
        stream = sealed(of_bytes(bytes(range(256)) * 100_000), RECIPIENT)
        await anext(stream)
        await stream.aclose()

    async def test_storing_one_can_be_cancelled_in_the_middle(self, tmp_path: Path) -> None:
        begun, more, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow() -> Bytes:
            try:
                begun.set()
                await more.wait()
                yield bytes(CHUNK_BYTES)
            finally:
                closed.set()

        repository = await at(tmp_path)
        storing = asyncio.create_task(repository.store("base", slow()))
        await begun.wait()
        storing.cancel()
        asyncio.get_running_loop().call_soon(more.set)
        with pytest.raises(asyncio.CancelledError):
            await storing
        assert closed.is_set()


class TestObjects:
    async def test_files_are_put_back_few_at_a_time(self, tmp_path: Path) -> None:
        repository = await at(tmp_path / "backups")
        files = [
            await repository.store(f"objects/{n}.gz.age", sealed(of_bytes(f"{n}\nx".encode()), RECIPIENT))
            for n in range(50)
        ]
        tasks = 0

        class Counting(Directory):
            async def put(self, key: str, source: Source, expected_bytes: int = 0) -> None:
                nonlocal tasks
                tasks = max(tasks, len(asyncio.all_tasks()))
                await super().put(key, source, expected_bytes)

        stores = Stores({"main": Counting(tmp_path / "objects")})
        put = await put_back(repository, {file.name: file for file in files}, stores, IDENTITY)
        assert put == len([*(tmp_path / "objects").iterdir()]) == 50
        assert tasks < 30

    async def test_a_database_is_stored_in_parts_that_are_few_enough_for_s3(self, tmp_path: Path) -> None:
        told: list[int] = []

        class Telling(Directory):
            async def put(self, key: str, source: Source, expected_bytes: int = 0) -> None:
                told.append(expected_bytes)
                await super().put(key, source)

        await Repository(Telling(tmp_path)).store("base", of_bytes(b"x"), expected_bytes=9)
        assert told == [9]

    @given(expected=st.integers(0, 5 * 2**40))
    def test_parts_are_within_what_s3_takes_and_a_fifth_of_them_is_left(self, expected: int) -> None:
        assert PART_BYTES <= part_bytes(expected) <= 700 * 2**20
        assert part_bytes(expected) * MOST_PARTS * 4 // 5 >= expected


class TestRecords:
    async def test_a_damaged_one_hides_none_of_the_others(self, tmp_path: Path) -> None:
        repository = await at(tmp_path)
        old, new = days(1)
        for one in (old, new):
            await repository.add(one)
        record = tmp_path / "backups" / new.id / "backup.json"
        record.write_bytes(record.read_bytes()[:-9])
        found = await repository.backups()
        assert [one.id for one in found.whole] == [old.id]
        assert [str(one) for one in found.damaged] == [f"backups/{new.id}/backup.json is damaged"]
        assert choose(found, "", None).id == old.id
        with pytest.raises(Damaged, match=new.id):
            choose(found, new.id, None)

    def test_a_record_is_read_as_it_was_written(self) -> None:
        made = backup(NOON)
        read = decoded(encoded(made), "backup.json")
        assert msgspec.structs.replace(read, digest="") == made

    @given(at=st.floats(0, 1, exclude_max=True))
    def test_a_changed_byte_is_noticed(self, at: float) -> None:
        stored = bytearray(encoded(backup(NOON)))
        stored[int(at * len(stored))] ^= 1
        with pytest.raises((Damaged, Refused)):
            decoded(bytes(stored), "backup.json")

    def test_one_of_a_newer_release_is_refused_with_its_version(self) -> None:
        stored = encoded(msgspec.structs.replace(backup(NOON), format=2, mesh_version="9.0"))
        with pytest.raises(Refused, match=r"made by Sessionmesh 9\.0"):
            decoded(stored, "backup.json")


class TestPolicy:
    def test_the_last_of_each_day_and_each_week_is_kept(self) -> None:
        backups = days(30)
        kept = sorted(Policy(daily=7, weekly=4).kept(backups))
        ends = [one.end_time for one in backups if one.id in kept]
        assert all(end.hour == 12 for end in ends)
        assert ends[-7:] == [NOON - timedelta(days=n) for n in reversed(range(7))]
        assert len({end.isocalendar()[:2] for end in ends}) == 4

    @given(count=st.integers(1, 40), daily=st.integers(0, 9), weekly=st.integers(0, 9))
    def test_the_newest_is_always_kept_and_no_more_than_asked(
        self, count: int, daily: int, weekly: int
    ) -> None:
        backups = days(count)
        kept = Policy(daily, weekly).kept(backups)
        assert backups[-1].id in kept
        assert len(kept) <= max(1, daily + weekly)


class TestOldSettings:
    def test_what_was_set_on_the_old_server_is_kept_and_not_in_force(self, tmp_path: Path) -> None:
        settings = tmp_path / "postgresql.auto.conf"
        settings.write_text("# made by ALTER SYSTEM\nsynchronous_standby_names = 'gone'\n")
        assert set_old_settings_aside(tmp_path)
        assert settings.read_text() == ""
        assert "synchronous_standby_names" in (tmp_path / OLD_SETTINGS).read_text()

    def test_where_nothing_was_set_nothing_is_told(self, tmp_path: Path) -> None:
        assert not set_old_settings_aside(tmp_path)
        (tmp_path / "postgresql.auto.conf").write_text("# made by ALTER SYSTEM\n\n")
        assert not set_old_settings_aside(tmp_path)


class TestChoosing:
    def test_the_last_that_ended_before_the_time_is_taken(self) -> None:
        backups = days(3)
        assert choose(undamaged(backups), "", None) is backups[-1]
        assert choose(undamaged(backups), "", NOON - timedelta(hours=1)) is backups[-2]

    def test_a_time_before_all_of_them_is_refused(self) -> None:
        with pytest.raises(Refused, match="no backup that ended before --until"):
            choose(undamaged(days(3)), "", NOON - timedelta(days=9))

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(Refused, match="there is no backup nonsense"):
            choose(undamaged(days(3)), "nonsense", None)


class TestLog:
    async def test_its_end_is_read_again_where_it_was_stored_anew_meanwhile(self, tmp_path: Path) -> None:
        repository = await at(tmp_path)
        await repository.store(PARTIAL_KEY, sealed(of_bytes(b"short"), RECIPIENT))
        size = await repository.size(PARTIAL_KEY)
        assert size is not None
        await repository.store(PARTIAL_KEY, sealed(of_bytes(bytes(range(256)) * 99), RECIPIENT))
        assert await read_log(repository, PARTIAL_KEY, size, IDENTITY) == bytes(range(256)) * 99
        await repository.store(WHOLE_KEY, sealed(of_bytes(b"all of it"), RECIPIENT))
        await repository.delete(PARTIAL_KEY)
        assert await read_log(repository, PARTIAL_KEY, size, IDENTITY) == b"all of it"

    async def test_damage_of_its_end_is_told(self, tmp_path: Path) -> None:
        repository = await at(tmp_path)
        stored = await whole(sealed(of_bytes(b"words"), RECIPIENT))
        await repository.store(PARTIAL_KEY, of_bytes(stored[:-1]))
        with pytest.raises(Damaged, match=r"partial\.gz\.age is damaged"):
            await read_log(repository, PARTIAL_KEY, len(stored) - 1, IDENTITY)

    async def test_what_is_only_half_stored_is_no_part_of_it(self, tmp_path: Path) -> None:
        repository = await at(tmp_path)
        await repository.store(WHOLE_KEY, of_bytes(b"x"))
        (tmp_path / f"{WHOLE_KEY}#1").write_bytes(b"ha")
        assert await stored_log(repository, 7, "0" * 24) == {SEGMENT: (WHOLE_KEY, 1)}

    def test_only_files_that_are_written_no_more_are_whole(self) -> None:
        assert is_whole("0000000100000000000000AB")
        assert is_whole("00000002.history")
        assert not is_whole("0000000100000000000000AB.partial")

    def test_segments_have_one_order_on_all_timelines(self) -> None:
        names = ["0000000100000000000000FF", "000000020000000100000000", "000000020000000100000001"]
        assert [place(name) for name in names] == [255, 256, 257]

    @pytest.mark.parametrize(
        ("numbers", "unbroken_ones"), [([], 0), ([5], 1), ([5, 6, 7], 3), ([5, 6, 8, 9], 2)]
    )
    def test_a_gap_ends_what_can_be_restored(self, numbers: Iterable[int], unbroken_ones: int) -> None:
        assert unbroken([f"{1:08X}{0:08X}{number:08X}" for number in numbers]) == unbroken_ones
