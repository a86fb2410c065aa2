"""Links of our own over HTTP, and downloads of files that are damaged."""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
import pytest
import pytest_asyncio
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_media.api import link_server
from mesh_media.api.downloads import MOST_DOWNLOADS
from mesh_media.api.links import Link, LinkSigner
from sessionmesh.v1 import media_pb2
from tests.conftest import Databases, LoopThread, fresh_database
from tests.support.eventually import eventually
from tests.support.media_processing import sound
from tests.support.media_world import ADMIN, MediaTenant, MediaWorld, media_world, photograph, sha256
from tests.support.mesh_api import refusal_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

PDF = b"%PDF-1.7\n" + os.urandom(700_000)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MediaWorld]:
    objects = {"MESH_OBJECTS_URL": tmp_path_factory.mktemp("objects").as_uri()}
    with fresh_database(databases, server_loop) as url:
        async with media_world(url, etcd, objects, MESH_LINKS_LISTEN="127.0.0.1:0") as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: MediaWorld) -> MediaTenant:
    return await world.tenant()


async def link_to(tenant: MediaTenant, media: media_pb2.Media, variant: int = 0) -> str:
    request = media_pb2.CreateDownloadUrlRequest(media_id=media.id)
    request.variant = media_pb2.MediaVariant.ValueType(variant)
    return (await tenant.media.CreateDownloadUrl(request, metadata=ADMIN)).url


async def fetched(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with ClientSession() as session, session.request(method, url, headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def file_of(tenant: MediaTenant) -> Path:
    """The tenant's only object."""
    [file] = tenant.folder.iterdir()
    return file


@pytest.mark.read_back("CreateDownloadUrl")
async def test_a_link_serves_the_file_to_be_stored_and_not_shown(tenant: MediaTenant) -> None:
    page = b"<html><script>alert(1)</script></html>"
    media = await tenant.upload(page, tenant.header(page, file_name="page.html", mime_type="text/html"))
    status, headers, body = await fetched(await link_to(tenant, media))
    assert (status, body) == (200, page)
    assert headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox")
    assert headers["Etag"] == f'"{media.sha256.hex()}"'


async def test_a_link_names_a_file_by_what_it_was_made_and_one_without_a_name_by_its_id(
    tenant: MediaTenant,
) -> None:
    came = sound("-c:a", "pcm_s16le", kind="wav")
    header = tenant.header(came, file_name="note.final.wav")
    header.options.purpose = media_pb2.MEDIA_PURPOSE_VOICE
    named = await tenant.upload(came, header)
    _, headers, _ = await fetched(await link_to(tenant, named))
    assert headers["Content-Disposition"] == 'attachment; filename="note.final.ogg"'
    plain = await tenant.upload(PDF)
    _, headers, _ = await fetched(await link_to(tenant, plain))
    assert headers["Content-Disposition"] == f'attachment; filename="{plain.id}.pdf"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=300000-", 300_000, len(PDF)), ("bytes=-7", len(PDF) - 7, len(PDF))],
)
async def test_a_link_serves_ranges(tenant: MediaTenant, asked: str, start: int, end: int) -> None:
    url = await link_to(tenant, await tenant.upload(PDF))
    status, headers, body = await fetched(url, Range=asked)
    assert (status, body) == (206, PDF[start:end])
    assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(PDF)}"


async def test_a_link_knows_what_is_the_same_and_what_there_is_not(tenant: MediaTenant) -> None:
    media = await tenant.upload(PDF)
    url, tag = await link_to(tenant, media), f'"{media.sha256.hex()}"'
    assert (await fetched(url, **{"If-None-Match": tag}))[0] == 304
    status, headers, body = await fetched(url, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(PDF)), b"")
    status, _, body = await fetched(url, Range="bytes=0-9", **{"If-Range": '"another"'})
    assert (status, body) == (200, PDF)
    assert (await fetched(url, "POST"))[0] == 405


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "bytes=9-2", "bytes=-", "bytes=a-b", "lines=0-1", "0-1", f"bytes=0-{'9' * 5000}"],
    ids=lambda asked: asked[:14],
)
async def test_what_is_not_one_range_is_answered_with_the_whole_file(tenant: MediaTenant, asked: str) -> None:
    status, _, body = await fetched(await link_to(tenant, await tenant.upload(PDF)), Range=asked)
    assert (status, body) == (200, PDF)


@pytest.mark.parametrize("asked", ["bytes=-0", f"bytes={len(PDF)}-", f"bytes={len(PDF)}-{len(PDF)}"])
async def test_a_range_that_the_file_has_nothing_of_is_told(tenant: MediaTenant, asked: str) -> None:
    status, headers, _ = await fetched(await link_to(tenant, await tenant.upload(PDF)), Range=asked)
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(PDF)}")


async def test_a_link_answers_only_what_meets_the_conditions(tenant: MediaTenant) -> None:
    media = await tenant.upload(PDF)
    url, tag = await link_to(tenant, media), f'"{media.sha256.hex()}"'
    part = {"Range": "bytes=0-9"}
    for header, value, status in (
        ("If-None-Match", "*", 304),
        ("If-None-Match", f'"other", W/{tag}', 304),
        ("If-None-Match", f'"{tag[1:10]}"', 206),
        ("If-Match", "*", 206),
        ("If-Match", f'"other", {tag}', 206),
        ("If-Match", f"W/{tag}", 412),
        ("If-Match", '"other"', 412),
        ("If-Range", tag, 206),
        ("If-Range", f"W/{tag}", 200),
        ("If-Range", "Sun, 06 Nov 1994 08:49:37 GMT", 200),
    ):
        assert (await fetched(url, **part, **{header: value}))[0] == status, (header, value)
    status, headers, _ = await fetched(url, "HEAD", **part)  # which has no ranges
    assert (status, headers["Content-Length"]) == (200, str(len(PDF)))


async def test_pages_of_any_site_may_read_a_link_that_they_have(tenant: MediaTenant) -> None:
    url = await link_to(tenant, await tenant.upload(PDF))
    status, headers, _ = await fetched(
        url,
        "OPTIONS",
        **{
            "Origin": "https://example.com",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "if-none-match,range",
        },
    )
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "GET" in headers["Access-Control-Allow-Methods"]
    assert {"If-None-Match", "Range"} < set(headers["Access-Control-Allow-Headers"].split(", "))
    for asked, status in (({"Range": "bytes=0-9"}, 206), ({"Range": "bytes=-0"}, 416)):
        answer = await fetched(url, **asked)
        assert (answer[0], answer[1]["Access-Control-Allow-Origin"]) == (status, "*")
        assert "Content-Range" in answer[1]["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer[1]


async def test_slow_downloads_of_one_tenants_file_leave_room_for_those_of_others(
    tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "MOST_DOWNLOADS", 2)
    url = await link_to(tenant, await tenant.upload(os.urandom(30_000_000)))
    other = await tenant.world.tenant()
    theirs = await link_to(other, await other.upload(PDF))
    async with ClientSession() as session, session.get(url) as unread:
        assert unread.status == 200
        assert (await fetched(url))[0] == 503
        assert (await fetched(theirs))[0] == 200


async def test_bodies_of_requests_are_not_unpacked(tenant: MediaTenant) -> None:
    at = urlsplit(await link_to(tenant, await tenant.upload(PDF)))
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    body = parts[0] + parts[1] * 400  # 4 GB
    head = f"POST {at.path} HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}"
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    before = time.process_time()
    writer.write(head.encode() + b"\r\n\r\n" + body)
    with suppress(ConnectionError):
        await reader.read()
    assert time.process_time() - before < 0.5
    writer.close()


async def test_connections_without_a_link_give_way_to_one_more_the_oldest_first(
    tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "MOST_CONNECTIONS", 3)
    url = await link_to(tenant, await tenant.upload(PDF))
    at = urlsplit(url)
    strangers = [await asyncio.open_connection(at.hostname, at.port) for _ in range(3)]
    strangers[0][1].write(b"GET /media/x HTTP/1.1\r\nHost: localhost\r\n")
    strangers[1][1].write(b"GET /media/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await strangers[1][0].readuntil(b"made here\n")
    assert (await fetched(url))[0] == 200
    with suppress(ConnectionError):
        assert await strangers[0][0].read() == b""
    _, kept = strangers[1]
    kept.write(b"GET /media/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await strangers[1][0].readuntil(b"made here\n")
    for _, writer in strangers:
        writer.close()


async def test_a_connection_that_serves_a_link_gives_way_to_none(
    tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "MOST_CONNECTIONS", 1)
    large = os.urandom(30_000_000)
    url = await link_to(tenant, await tenant.upload(large))
    async with ClientSession() as session, session.get(url) as answer:
        with pytest.raises(ClientConnectionError):
            await fetched(url)
        assert await answer.read() == large


async def test_answers_that_nobody_reads_keep_no_connection(
    tenant: MediaTenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_server, "READ_SECONDS", 0.5)
    url = await link_to(tenant, await tenant.upload(PDF))
    at = urlsplit(url)
    _, unread = await asyncio.open_connection(at.hostname, at.port, limit=1)
    unread.write(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40_000)

    def has_ended() -> bool:
        unread.write(b"\r\n")  # only who says something hears of it
        return unread.is_closing()

    await eventually(has_ended, what="the end of the connection")


async def test_a_link_that_was_changed_or_has_ended_is_refused(
    world: MediaWorld, tenant: MediaTenant
) -> None:
    media = await tenant.upload(PDF)
    url = await link_to(tenant, media)
    before, _, token = url.rpartition("/")
    changed = token[:-1] + ("A" if token[-1] != "A" else "E")
    for wrong in (changed, token[:-4], "x", "A" * 55, token + "AAAA", "%00"):
        assert (await fetched(f"{before}/{wrong}"))[0] == 403, wrong
    signer = LinkSigner(await world.database.fetchval("SELECT page_key FROM cluster_identity"))
    link = Link(ids.decode(Prefix.MEDIA, media.id, "id"), media_pb2.MEDIA_VARIANT_UNSPECIFIED)
    ended = signer.token(link, datetime.now(UTC) - timedelta(seconds=1))
    assert (await fetched(f"{before}/{ended}"))[0] == 410
    going = signer.token(link, datetime.now(UTC) + timedelta(minutes=1))
    assert (await fetched(f"{before}/{going}"))[0] == 200
    await tenant.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=media.id), metadata=ADMIN)
    assert (await fetched(url))[0] == 404


async def test_downloads_that_nobody_reads_leave_room_for_those_of_others(tenant: MediaTenant) -> None:
    media = await tenant.upload(os.urandom(3_000_000))
    request = media_pb2.DownloadMediaRequest(media_id=media.id)
    unread = [tenant.media.DownloadMedia(request, metadata=ADMIN) for _ in range(MOST_DOWNLOADS)]
    for call in unread:
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tenant.download(media.id)
    assert (refusal_of(caught.value).reason, refusal_of(caught.value).code) == (
        "RATE_LIMITED",
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
    other = await tenant.world.tenant()
    assert await other.download((await other.upload(PDF)).id) == PDF
    for call in unread:
        call.cancel()


@pytest.mark.read_back("DownloadMedia")
async def test_each_variant_is_downloaded_as_itself(tenant: MediaTenant) -> None:
    photo = photograph(2400)
    media = await tenant.upload(photo, tenant.header(photo, keep_original=True))
    stored, original, small = [
        await tenant.frames(media_pb2.DownloadMediaRequest(media_id=media.id, variant=variant))
        for variant in media_pb2.MediaVariant.values()
    ]
    assert stored[0].header.sha256 == media.sha256
    assert original[0].header.sha256 == sha256(photo)
    assert b"".join(frame.chunk for frame in original[1:]) == photo
    assert (small[0].header.mime_type, small[0].header.size_bytes) == (
        "image/jpeg",
        media.thumbnail.size_bytes,
    )
    for frames in (stored, small):
        assert sha256(b"".join(frame.chunk for frame in frames[1:])) == frames[0].header.sha256
    status, headers, body = await fetched(await link_to(tenant, media, media_pb2.MEDIA_VARIANT_THUMBNAIL))
    assert (status, headers["Content-Disposition"], sha256(body)) == (200, "inline", small[0].header.sha256)


async def test_a_variant_that_there_is_not_is_not_found(tenant: MediaTenant) -> None:
    photo = photograph(2400)
    compressed, paper = await tenant.upload(photo), await tenant.upload(PDF)
    for media, variant in (
        (compressed, media_pb2.MEDIA_VARIANT_ORIGINAL),
        (paper, media_pb2.MEDIA_VARIANT_THUMBNAIL),
    ):
        request = media_pb2.DownloadMediaRequest(media_id=media.id, variant=variant)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await tenant.frames(request)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    request = media_pb2.DownloadMediaRequest(media_id=paper.id, variant=media_pb2.MEDIA_VARIANT_ORIGINAL)
    assert (await tenant.frames(request))[0].header.sha256 == paper.sha256  # it is stored as it came


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
async def test_a_damaged_file_is_data_loss_and_never_taken_for_whole(
    tenant: MediaTenant, damage: str
) -> None:
    media = await tenant.upload(PDF)
    url = await link_to(tenant, media)
    file = file_of(tenant)
    broken = PDF[:-1] + bytes([PDF[-1] ^ 1])
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(broken if damage == "changed" else PDF[:300_000])
    got: list[bytes] = []

    async def download() -> None:
        request = media_pb2.DownloadMediaRequest(media_id=media.id)
        async for frame in tenant.media.DownloadMedia(request, metadata=ADMIN):
            got.append(frame.chunk)  # noqa: PERF401 - what came before it failed

    with pytest.raises(grpc.aio.AioRpcError) as lost:
        await download()
    assert (lost.value.code(), refusal_of(lost.value).reason) == (grpc.StatusCode.DATA_LOSS, "FILE_DAMAGED")
    assert len(b"".join(got)) < len(PDF)
    if damage == "gone":
        assert (await fetched(url))[0] == 500
    else:
        with pytest.raises(ClientPayloadError):
            await fetched(url)
