"""What an upload is refused for, and that a refused one stores nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mesh_core import ids
from mesh_core.errors import InvalidField
from mesh_core.rpc.auth import Identity, Role
from mesh_media.api.uploads import Uploads
from mesh_media.processing.compressor import Compressor
from sessionmesh.v1 import media_pb2

PDF = b"%PDF-1.7\n" + bytes(range(256)) * 4
CALLER = Identity(Role.TENANT, ids.new_uuid(), "key", frozenset())
MESH = Identity(Role.MESH, CALLER.tenant_id, "", frozenset())


class Store:
    """Rows and objects that were added, in memory."""

    def __init__(self) -> None:
        self.reserved: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.rows: list[Any] = []

    async def reserve(self, _tenant: object, _account: object, key: str, *_: object) -> None:
        self.reserved.append(key)

    async def put(self, key: str, source: Path | bytes) -> None:
        if isinstance(source, Path):
            source = await asyncio.to_thread(source.read_bytes)
        self.objects[key] = source

    async def add(self, new: Any, *_: object) -> Any:
        self.rows.append(new)
        return new


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def uploads(store: Store, tmp_path: Path) -> Iterator[Uploads]:
    compressor = Compressor(max_pixels=1_000_000, side=100, quality=75, workers=1)
    stored: Any = store
    yield Uploads(
        stored,
        stored,
        stored,
        compressor,
        max_bytes=4_000_000,
        lifetime=timedelta(hours=1),
        folder=str(tmp_path),
    )
    compressor.close()
    assert not list(tmp_path.iterdir()), "no temporary file stays"


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
    row: Any = await uploads.receive(
        frames(header(options={"file_name": "a.pdf"}), PDF[:100], PDF[100:]), CALLER
    )
    assert (row.tenant, row.mime_type, row.size, row.file_name) == (
        CALLER.tenant_id,
        "application/pdf",
        len(PDF),
        "a.pdf",
    )
    assert store.objects == {row.key: PDF}
    assert store.reserved == [row.key]


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


async def test_the_mesh_itself_may_say_that_a_file_came_from_the_network(uploads: Uploads) -> None:
    row: Any = await uploads.receive(frames(header(origin=media_pb2.MEDIA_ORIGIN_NETWORK), PDF), MESH)
    assert row.origin == media_pb2.MEDIA_ORIGIN_NETWORK
