"""What an upload is refused for, and that a refused one stores nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mesh_core import ids
from mesh_core.disk import DiskFull
from mesh_core.errors import DeadlineExceeded, InvalidField, ResourceExhausted, StartupError
from mesh_core.rpc.auth import Identity, Role
from mesh_core.tasks import Supervisor
from mesh_media.api.uploads import MOST_UPLOADS, Uploads
from mesh_media.ingest.announcements import Policy
from mesh_media.ingest.ingest import IngestLimits
from mesh_media.ingest.intake import Intake
from mesh_media.ingest.room import Rooms
from mesh_media.processing import spool
from mesh_media.processing.processor import ProcessingLimits, Processor
from mesh_media.processing.spool import SpoolFolder
from mesh_media.repository.rows import NewFile, NewMedia
from sessionmesh.v1 import media_pb2
from tests.support.eventually import eventually

FOLDER_BYTES = 10_000_000
"""What all files on their way in may have together."""
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 4
CALLER = Identity(Role.TENANT, ids.new_uuid(), "key", frozenset())
MESH = Identity(Role.MESH, CALLER.tenant_id, "", frozenset())


class Store:
    """Rows and objects that were added, in memory."""

    def __init__(self) -> None:
        self.reserved: list[str] = []
        self.sizes: dict[str, int] = {}
        self.objects: dict[str, bytes] = {}
        self.rows: list[tuple[NewMedia, NewFile]] = []
        self.given_back: list[tuple[str, bool]] = []
        self.broken = False
        self.writing = 0
        self.most_writing = 0
        self.writes = asyncio.Event()
        self.writes.set()
        self.gives_back = asyncio.Event()
        self.gives_back.set()

    async def of(self, _tenant: object) -> Policy:
        return Policy()

    async def reserve(self, _tenant: object, _account: object, key: str, size: int, *_: object) -> None:
        self.reserved.append(key)
        self.sizes[key] = size

    async def settle(self, _tenant: object, sizes: dict[str, int], _lifetime: object) -> None:
        self.sizes.update(sizes)

    async def give_back(self, key: str, *, written: bool) -> None:
        await self.gives_back.wait()
        self.given_back.append((key, written))

    async def put(self, key: str, source: Path | bytes) -> None:
        if self.broken:
            raise OSError
        self.writing += 1
        self.most_writing = max(self.most_writing, self.writing)
        await self.writes.wait()
        self.writing -= 1
        if isinstance(source, Path):
            source = await asyncio.to_thread(source.read_bytes)
        self.objects[key] = source

    async def add_known(self, *_: object) -> None:
        return None

    async def objects_with(self, *_: object) -> frozenset[bytes]:
        return frozenset()

    async def add(self, new: NewMedia, file: NewFile, *_: object) -> Any:
        self.rows.append((new, file))
        return SimpleNamespace(
            id=new.id,
            tenant=new.tenant,
            mime_type=file.mime_type,
            origin=new.origin,
            size=file.stored.size,
            is_ready=True,
        )


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def uploads(store: Store, tmp_path: Path) -> AsyncIterator[Uploads]:
    limits = IngestLimits(
        4_000_000,
        timedelta(hours=1),
        timedelta(),
        SpoolFolder(str(tmp_path), FOLDER_BYTES),
        workers=1,
        fetches=1,
    )
    processor = Processor(
        ProcessingLimits(1_000_000, side=100, quality=75, pictures=1, films=1, folder=str(tmp_path))
    )
    stored: Any = store
    numbers = itertools.count()
    async with Supervisor(lambda _name, error: pytest.fail(str(error))) as supervisor:
        rooms = Rooms(stored, lambda tenant: f"{tenant}/{next(numbers)}", supervisor, limits.lifetime)
        intake = Intake(stored, stored, processor)
        parts: Any = SimpleNamespace(limits=limits, policies=store, rooms=rooms, intake=intake)
        yield Uploads(parts)
    assert files_in(tmp_path) == 0, "no temporary file stays"


def header(**fields: Any) -> media_pb2.UploadHeader:
    values: dict[str, Any] = {"request_id": "r", "size_bytes": len(PDF)}
    return media_pb2.UploadHeader(**values | fields)


async def frames(
    first: media_pb2.UploadHeader | None, *chunks: bytes
) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    if first is not None:
        yield media_pb2.UploadMediaRequest(header=first)
    for chunk in chunks:
        yield media_pb2.UploadMediaRequest(chunk=chunk)


async def test_a_good_upload_is_stored_with_its_row(uploads: Uploads, store: Store) -> None:
    await uploads.receive(frames(header(options={"file_name": "a.pdf"}), PDF[:100], PDF[100:]), CALLER)
    [(new, file)] = store.rows
    assert (new.tenant, new.file_name, file.mime_type) == (CALLER.tenant_id, "a.pdf", "application/pdf")
    assert store.objects == {file.stored.key: PDF}
    assert store.reserved == [file.stored.key]


@pytest.mark.parametrize("announced", ["", "application/octet-stream"])
async def test_a_document_that_nobody_announced_is_announced_by_its_name(
    uploads: Uploads, store: Store, announced: str
) -> None:
    said = {"file_name": "a.csv", "mime_type": announced}
    await uploads.receive(frames(header(size_bytes=4, options=said), b"a;b\n"), CALLER)
    [(new, file)] = store.rows
    assert (new.declared_mime_type, file.mime_type) == ("text/csv", "text/csv")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": ""}, "header.request_id"),
        ({"request_id": "x" * 65}, "header.request_id"),
        ({"size_bytes": 0}, "header.size_bytes"),
        ({"size_bytes": len(PDF) - 1}, "header.size_bytes"),
        ({"size_bytes": len(PDF) + 1}, "header.size_bytes"),
        ({"size_bytes": 5_000_000}, "header.size_bytes"),
        ({"options": {"sha256": b"short"}}, "header.options.sha256"),
        ({"options": {"sha256": bytes(32)}}, "header.options.sha256"),
        ({"options": {"mime_type": "image/jpeg"}}, "header.options.mime_type"),
        ({"options": {"mime_type": "no type"}}, "header.options.mime_type"),
        ({"options": {"file_name": "../secret"}}, "header.options.file_name"),
        ({"options": {"file_name": ".."}}, "header.options.file_name"),
        ({"options": {"file_name": "a\\b"}}, "header.options.file_name"),
        ({"options": {"file_name": "nul\0"}}, "header.options.file_name"),
        ({"options": {"file_name": "a" * 256}}, "header.options.file_name"),
        ({"options": {"labels": {"": "x"}}}, "header.options.labels"),
        ({"account_id": "acc_1"}, "header.account_id"),
        ({"origin": media_pb2.MEDIA_ORIGIN_NETWORK}, "header.origin"),
        ({"origin": media_pb2.MEDIA_ORIGIN_URL}, "header.origin"),
        ({"origin": 77}, "header.origin"),
        ({"options": {"purpose": 77}}, "header.options.purpose"),
        ({"options": {"compression": -1}}, "header.options.compression"),
    ],
)
async def test_bad_input_is_refused_with_its_field(
    uploads: Uploads, store: Store, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await uploads.receive(frames(header(**fields), PDF), CALLER)
    assert caught.value.field == field
    assert not store.objects
    assert not store.rows


@pytest.mark.parametrize("seconds", [0, 3651 * 86_400])
async def test_a_file_is_kept_for_at_least_a_second_and_at_most_ten_years(
    uploads: Uploads, seconds: int
) -> None:
    bad = header()
    bad.options.keep_for.FromSeconds(seconds)
    with pytest.raises(InvalidField) as caught:
        await uploads.receive(frames(bad, PDF), CALLER)
    assert caught.value.field == "header.options.keep_for"


async def test_a_chunk_before_the_header_is_refused(uploads: Uploads) -> None:
    with pytest.raises(InvalidField) as caught:
        await uploads.receive(frames(None, PDF), CALLER)
    assert caught.value.field == "header"


@pytest.mark.parametrize("chunk", [b"", bytes(1024 * 1024 + 1)])
async def test_an_empty_or_too_large_chunk_is_refused(uploads: Uploads, chunk: bytes) -> None:
    with pytest.raises(InvalidField) as caught:
        await uploads.receive(frames(header(size_bytes=3_000_000), chunk), CALLER)
    assert caught.value.field == "chunk"


async def test_the_mesh_itself_may_say_that_a_file_came_from_the_network(
    uploads: Uploads, store: Store
) -> None:
    await uploads.receive(frames(header(origin=media_pb2.MEDIA_ORIGIN_NETWORK), PDF), MESH)
    assert store.rows[0][0].origin == media_pb2.MEDIA_ORIGIN_NETWORK


@pytest.mark.parametrize("size", [-1, 0, 10, 10**12])
async def test_what_the_network_says_of_a_size_reserves_nothing_and_ends_nothing(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(spool, "START_SECONDS", -1.0)  # a caller's would be late with any size
    monkeypatch.setattr(spool, "LEAST_RATE", 2**60)
    first = header(origin=media_pb2.MEDIA_ORIGIN_NETWORK, size_bytes=size)
    await uploads.receive(frames(first, PDF[:100], PDF[100:]), MESH)
    [(new, _)] = store.rows
    assert new.original_size == len(PDF)
    assert max(store.sizes.values()) == len(PDF)


# Uploads that come slowly, break or are many


def files_in(folder: Path) -> int:
    return len(list(folder.iterdir()))


async def stalled(
    first: media_pb2.UploadHeader, *chunks: bytes
) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    async for frame in frames(first, *chunks):
        yield frame
    await asyncio.Event().wait()


async def trickling(first: media_pb2.UploadHeader) -> AsyncIterator[media_pb2.UploadMediaRequest]:
    async for frame in frames(first):
        yield frame
    while True:
        await asyncio.sleep(0.001)
        yield media_pb2.UploadMediaRequest(chunk=b"x")


async def test_a_piece_that_does_not_come_ends_the_upload(
    uploads: Uploads, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "PIECE_SECONDS", 0.02)
    with pytest.raises(DeadlineExceeded):
        await uploads.receive(stalled(header(), PDF[:100]), CALLER)
    assert store.given_back == [(store.reserved[0], False)]
    assert files_in(tmp_path) == 0


async def test_a_header_that_does_not_come_ends_the_upload(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        await asyncio.Event().wait()
        yield media_pb2.UploadMediaRequest()

    monkeypatch.setattr(spool, "PIECE_SECONDS", 0.02)
    with pytest.raises(DeadlineExceeded):
        await uploads.receive(silent(), CALLER)


async def test_an_upload_that_trickles_ends_when_the_time_for_its_size_is_over(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "START_SECONDS", 0.02)
    monkeypatch.setattr(spool, "LEAST_RATE", 4_000_000 / 0.05)
    with pytest.raises(DeadlineExceeded):
        await uploads.receive(trickling(header(size_bytes=4_000_000)), CALLER)
    assert store.given_back == [(store.reserved[0], False)]


async def test_a_cancelled_upload_gives_back_its_reservation_its_file_and_its_place(
    uploads: Uploads, store: Store, tmp_path: Path
) -> None:
    for _ in range(MOST_UPLOADS + 1):
        upload = asyncio.create_task(uploads.receive(stalled(header(), PDF[:100]), CALLER), name="upload")
        await eventually(lambda: files_in(tmp_path) == 1)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert files_in(tmp_path) == 0
    assert store.given_back == [(key, False) for key in store.reserved]


async def test_an_upload_that_is_cancelled_twice_gives_its_reservation_back(
    uploads: Uploads, store: Store, tmp_path: Path
) -> None:
    store.gives_back.clear()
    upload = asyncio.create_task(uploads.receive(stalled(header(), PDF[:100]), CALLER), name="upload")
    await eventually(lambda: files_in(tmp_path) == 1)
    upload.cancel()
    await eventually(lambda: files_in(tmp_path) == 0)
    upload.cancel()  # as gRPC does, which first ends the requests
    with pytest.raises(asyncio.CancelledError):
        await upload
    store.gives_back.set()
    await eventually(lambda: store.given_back == [(store.reserved[0], False)])


async def test_of_an_upload_that_the_store_failed_something_may_be_written(
    uploads: Uploads, store: Store
) -> None:
    store.broken = True
    with pytest.raises(OSError):  # noqa: PT011 - it is the double's own
        await uploads.receive(frames(header(), PDF), CALLER)
    assert store.given_back == [(store.reserved[0], True)]


async def test_a_good_upload_gives_nothing_back(uploads: Uploads, store: Store) -> None:
    await uploads.receive(frames(header(), PDF), CALLER)
    assert store.given_back == []


async def test_a_tenant_has_so_many_uploads_at_once_and_others_have_theirs(
    uploads: Uploads, store: Store
) -> None:
    async with asyncio.TaskGroup() as group:
        many = [
            group.create_task(uploads.receive(stalled(header(), PDF[:100]), CALLER), name="upload")
            for _ in range(MOST_UPLOADS)
        ]
        await eventually(lambda: len(store.reserved) == MOST_UPLOADS)
        with pytest.raises(ResourceExhausted) as caught:
            await uploads.receive(frames(header(), PDF), CALLER)
        assert (caught.value.reason, caught.value.quota) == ("RATE_LIMITED", "uploads")
        assert len(store.reserved) == MOST_UPLOADS, "a refused one reserves nothing"
        other = Identity(Role.TENANT, ids.new_uuid(), "key", frozenset())
        await uploads.receive(frames(header(), PDF), other)
        await uploads.receive(frames(header(), PDF), MESH)  # a file that came with a message
        for upload in many:
            upload.cancel()


async def test_of_large_files_one_is_written_at_once_in_turns_over_the_tenants(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_media.ingest.intake.LARGE_BYTES", len(PDF) - 1)
    other = Identity(Role.TENANT, ids.new_uuid(), "key", frozenset())
    store.writes.clear()
    async with asyncio.TaskGroup() as group:
        for caller in (CALLER, CALLER, CALLER, CALLER, other):
            group.create_task(uploads.receive(frames(header(), PDF), caller), name="upload")
        await eventually(lambda: len(store.reserved) == 5 and store.writing == 1)
        small = PDF[:-1]
        upload = uploads.receive(frames(header(size_bytes=len(small)), small), CALLER)
        group.create_task(upload, name="small upload")
        await eventually(lambda: store.writing == 2, what="a small file that waits for none")
        store.writes.set()
    stored = [new.tenant for new, _ in store.rows]
    assert stored[-1] != other.tenant_id, "it has its turn before the last of the other's"
    assert store.most_writing == 2


def test_what_a_killed_process_left_is_deleted_and_not_what_a_running_one_has(tmp_path: Path) -> None:
    killed = tmp_path / "sessionmesh-media-killed"
    killed.mkdir()
    (killed / "upload-1").write_bytes(b"half")
    with spool.own_folder(str(tmp_path)) as running, spool.own_folder(str(tmp_path)) as own:
        assert {*tmp_path.iterdir()} == {Path(running), Path(own)}
        (Path(own) / "upload-2").write_bytes(b"half")
    assert not [*tmp_path.iterdir()]


def test_a_folder_for_temporary_files_that_is_missing_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="temporary files"), spool.own_folder(str(tmp_path / "missing")):
        pass


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield bytes(size)


async def test_files_together_have_no_more_than_their_folder_may(tmp_path: Path) -> None:
    folder = SpoolFolder(str(tmp_path), 1_000)
    async with spool.spool(pieces(600), 2_000, folder) as first:
        with pytest.raises(DiskFull):
            async with spool.spool(pieces(300, 300), 2_000, folder):
                pytest.fail("there was no room for it")
        async with spool.spool(pieces(400), 2_000, folder) as second:
            assert (first.size, second.size) == (600, 400)
    async with spool.spool(pieces(1_000), 2_000, folder) as third:  # all of it was given back
        assert third.size == 1_000


async def test_without_a_limit_the_disk_is_the_limit(tmp_path: Path) -> None:
    async with spool.spool(pieces(*[1_000_000] * 20), 2**30, SpoolFolder(str(tmp_path))) as file:
        assert file.size == 20_000_000


async def test_an_upload_that_has_no_room_is_told_when_to_come_again(uploads: Uploads, store: Store) -> None:
    waiting, sent = 0, 3 * [bytes(1_000_000)]

    async def slow() -> AsyncIterator[media_pb2.UploadMediaRequest]:
        nonlocal waiting
        async for frame in frames(header(size_bytes=4_000_000), *sent):
            yield frame
        waiting += 1
        await asyncio.Event().wait()

    slow_ones = [asyncio.create_task(uploads.receive(slow(), CALLER)) for _ in range(3)]
    await eventually(lambda: waiting == 3)
    with pytest.raises(DiskFull) as refused:
        await uploads.receive(frames(header(size_bytes=3_000_000), *sent), CALLER)
    assert refused.value.retry_after
    for one in slow_ones:
        one.cancel()
    await asyncio.wait(slow_ones)
    assert not store.rows
