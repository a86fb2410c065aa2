"""What holds for every object store: a directory, and two makes of S3."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from mesh_core.errors import DataLoss, StartupError, Unavailable
from mesh_core.settings import ObjectsSettings, StoreSettings
from mesh_media.stores import s3 as s3_store
from mesh_media.stores.buckets import RULE
from mesh_media.stores.named_stores import open_store, open_stores
from mesh_media.stores.object_store import CHUNK_BYTES, FoundObject, ListedStore
from mesh_media.stores.s3 import minio_client
from tests.conftest import S3
from tests.support.minio_server import KMS_KEY
from tests.support.relay import relay_to

pytestmark = pytest.mark.slow

LARGE = os.urandom(s3_store.READ_BYTES * 3 + 4321)


def settings_of(s3: S3, **more: Any) -> StoreSettings:
    """A bucket that no other test uses."""
    return StoreSettings(
        url=f"s3://test-{uuid.uuid4().hex[:12]}",
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        **more,
    )


@pytest.fixture(params=["directory", "minio", "seaweed"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ListedStore:
    """Each kind in turn, empty."""
    if request.param == "directory":
        return await open_store(StoreSettings(url=(tmp_path / "objects").as_uri()))
    s3: S3 = request.getfixturevalue("s3" if request.param == "minio" else "seaweed")
    return await open_store(settings_of(s3))


async def bytes_of(store: ListedStore, key: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in store.get(key, start, end)])


async def test_bytes_come_back_whole_and_in_part(store: ListedStore, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    await store.put("tenant/file", file)
    await store.put("tenant/bytes", b"small")
    chunks = [chunk async for chunk in store.get("tenant/file", 0, len(LARGE))]
    assert max(map(len, chunks)) <= CHUNK_BYTES
    assert b"".join(chunks) == LARGE
    edge = s3_store.READ_BYTES
    assert await bytes_of(store, "tenant/file", edge - 2, edge + 3) == LARGE[edge - 2 : edge + 3]
    assert await bytes_of(store, "tenant/bytes", 2, 2) == b""
    assert (await store.size("tenant/file"), await store.size("tenant/bytes")) == (len(LARGE), 5)


async def test_bytes_that_come_in_pieces_are_stored_whole_or_not_at_all(store: ListedStore) -> None:
    async def pieces(*, broken: bool) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(LARGE), 1_000_000):
            yield LARGE[at : at + 1_000_000]
        if broken:
            raise DataLoss("broken", "FILE_DAMAGED")

    await store.put("tenant/whole", pieces(broken=False))
    assert await bytes_of(store, "tenant/whole", 0, len(LARGE)) == LARGE
    with pytest.raises(DataLoss, match="broken"):
        await store.put("tenant/broken", pieces(broken=True))
    assert await store.size("tenant/broken") is None


async def test_an_object_that_is_gone_or_too_short_is_told(store: ListedStore) -> None:
    await store.put("tenant/short", b"12345")
    with pytest.raises(FileNotFoundError):
        await bytes_of(store, "tenant/none", 0, 1)
    for start, end in ((0, 6), (4, 9), (7, 9)):
        with pytest.raises(DataLoss):
            await bytes_of(store, "tenant/short", start, end)
    assert await store.size("tenant/none") is None


async def test_objects_are_listed_in_the_order_of_their_keys(store: ListedStore) -> None:
    keys = [f"{tenant}/{number:02}" for tenant in ("a1", "b", "b2") for number in range(4)]
    for key in reversed(keys):
        await store.put(key, key.encode())
    listed: list[FoundObject] = []
    while page := await store.page(listed[-1].key if listed else "", 5):
        assert len(page) <= 5
        listed += page
    assert [one.key for one in listed] == keys
    assert [one.size for one in listed] == [len(key) for key in keys]


async def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: ListedStore) -> None:
    await store.put("tenant/file", b"bytes")
    await store.delete("tenant/file")
    await store.delete("tenant/file")
    assert await store.size("tenant/file") is None
    assert await store.page("", 10) == []


async def test_objects_are_deleted_many_at_once_and_no_other(store: ListedStore) -> None:
    keys = [f"tenant/{number}" for number in range(5)]
    for key in keys:
        await store.put(key, b"bytes")
    await store.delete_all(keys[:4])
    assert [found.key for found in await store.page("", 10)] == keys[4:]


@pytest.mark.parametrize("make", ["s3", "seaweed"])
async def test_an_address_of_s3_stores_the_file_under_its_name(
    make: str, request: pytest.FixtureRequest
) -> None:
    store = await open_store(settings_of(request.getfixturevalue(make)))
    await store.put("tenant/file", b"<script>")
    made = await store.download_url("tenant/file", timedelta(minutes=1), 'Übersicht "neu".html', "text/html")
    assert made is not None
    async with ClientSession() as session, session.get(made.url) as answer:
        assert await answer.read() == b"<script>"
        disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="_bersicht _neu_.html"; filename*=UTF-8')
    assert disposition.endswith("%C3%9Cbersicht%20%22neu%22.html")


async def test_an_address_is_signed_for_the_host_by_which_callers_reach_the_store(seaweed: S3) -> None:
    public = seaweed.endpoint.replace("127.0.0.1", "localhost")
    store = await open_store(settings_of(seaweed, public_endpoint=public))
    await store.put("tenant/file", b"bytes")
    made = await store.download_url("tenant/file", timedelta(minutes=1), "", "text/plain")
    assert made is not None
    assert made.url.startswith("http://localhost:")
    async with ClientSession() as session, session.get(made.url) as answer:
        assert await answer.read() == b"bytes"


@pytest.mark.parametrize("make", ["s3", "seaweed"])
async def test_a_bucket_is_made_for_the_mesh_alone_and_other_rules_of_it_stay(
    make: str, request: pytest.FixtureRequest
) -> None:
    settings = settings_of(request.getfixturevalue(make))
    client, bucket = minio_client(settings), settings.url.removeprefix("s3://")
    client.make_bucket(bucket)
    another = Rule(ENABLED, Filter(prefix="tmp/"), "another", expiration=Expiration(days=1))
    client.set_bucket_lifecycle(bucket, LifecycleConfig([another]))
    for _ in range(2):
        await open_store(settings)
        if make == "seaweed":  # MinIO takes no such rule, and throws such parts away by itself
            lifecycle = client.get_bucket_lifecycle(bucket)
            assert lifecycle is not None
            assert [rule.rule_id for rule in lifecycle.rules] == ["another", RULE]
    client.set_bucket_policy(bucket, json.dumps(_open_to_all(bucket)))
    with pytest.raises(StartupError, match=f"the bucket {bucket} is open to everybody"):
        await open_store(settings)


@pytest.mark.parametrize(("encryption", "key", "told"), [("s3", "", "AES256"), ("kms", KMS_KEY, "aws:kms")])
async def test_s3_encrypts_objects_when_asked_to(s3: S3, encryption: str, key: str, told: str) -> None:
    settings = settings_of(s3, encryption=encryption, kms_key=key)
    store = await open_store(settings)
    await store.put("tenant/small", b"bytes")
    await store.put("tenant/large", LARGE)
    client, bucket = minio_client(settings), settings.url.removeprefix("s3://")
    for name in ("tenant/small", "tenant/large"):
        headers = client.stat_object(bucket, name).metadata
        assert headers is not None
        assert headers["x-amz-server-side-encryption"] == told
    assert await bytes_of(store, "tenant/large", 0, len(LARGE)) == LARGE


async def test_s3_that_is_gone_is_unavailable_until_it_is_back(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "RETRY_SECONDS", 0.5)
    async with relay_to(s3.endpoint.removeprefix("http://")) as relay:
        store = await open_store(settings_of(S3(f"http://{relay.url}", s3.access_key, s3.secret_key)))
        await store.put("tenant/file", b"bytes")
        await relay.cut()
        for broken in (
            store.put("tenant/other", b"bytes"),
            bytes_of(store, "tenant/file", 0, 5),
            store.size("tenant/file"),
            store.delete("tenant/file"),
            store.page("", 5),
        ):
            with pytest.raises(Unavailable):
                await broken
        assert await store.unready() == "the object store does not answer"
        await relay.open()
        assert await store.unready() == ""
        assert await bytes_of(store, "tenant/file", 0, 5) == b"bytes"


async def test_a_key_says_which_store_has_the_object(tmp_path: Path) -> None:
    others = {"archive": StoreSettings(url=(tmp_path / "archive").as_uri())}
    stores = await open_stores(ObjectsSettings(url=(tmp_path / "main").as_uri(), others=others))
    await stores.put("tenant/file", b"main")
    await stores.put("archive:tenant/file", b"archive")
    assert stores.names == ["main", "archive"]
    assert (tmp_path / "archive" / "tenant" / "file").read_bytes() == b"archive"
    assert [one.key for one in await stores.page_of("archive", "", 5)] == ["archive:tenant/file"]
    await stores.delete("archive:tenant/file")
    assert await stores.size("tenant/file") == 4
    with pytest.raises(Unavailable, match="does not know the object store elsewhere"):
        await stores.size("elsewhere:tenant/file")


def _open_to_all(bucket: str) -> object:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ["*"]},
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


async def test_a_folder_that_is_gone_cannot_be_used(tmp_path: Path) -> None:
    store = await open_store(StoreSettings(url=(tmp_path / "objects").as_uri()))
    assert await store.unready() == ""
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    assert await store.unready() == "the folder of objects is gone, or not to be written to"
