"""Files that are fetched from web addresses, by a real service from real web servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from aiohttp import web
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.backoff import Backoff
from mesh_core.errors import Unavailable
from mesh_core.ids import Prefix
from mesh_media.ingest import fetches
from mesh_media.ingest.later import Later
from mesh_media.ingest.web import NotFetched, Web
from mesh_media.processing.processor import Processor
from mesh_media.processing.spool import SpooledFile
from mesh_media.repository.rows import FETCH
from sessionmesh.v1 import content_pb2, media_pb2
from tests.conftest import Databases, LoopThread, fresh_database
from tests.support.eventually import eventually
from tests.support.media_world import MediaTenant, MediaWorld, media_world, photograph, sha256
from tests.support.mesh_api import refusal_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 100
MAX_BYTES = 1_000_000
SIGNED = "/signed/a%27b%2Fc.pdf?credential=k%2Fs3&name=%22T%202%22&signature=x%2By%3D"


@dataclass
class Site:
    """A web server with a file, and what it was asked with."""

    address: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    elsewhere: str = ""
    failures: int = 0

    async def file(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        return web.Response(body=PDF, content_type="application/octet-stream")

    async def sheet(self, _request: web.Request) -> web.Response:
        said = {"content-disposition": "attachment; filename=Preise 2026.csv"}
        return web.Response(body=b"a;b\n", content_type="application/octet-stream", headers=said)

    async def text(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"a,b\n1,2\n", content_type="text/csv")

    async def book(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"PK\x03\x04" + bytes(300), content_type="application/epub+zip")

    async def named(self, request: web.Request) -> web.Response:
        assert request.raw_path == "/gr%C3%BC%C3%9Fe%201?an=%C3%BC"
        said = {"content-disposition": "attachment; filename*=UTF-8''%C3%BCber.pdf"}
        return web.Response(body=PDF, headers=said)

    async def to_signed(self, _request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"location": SIGNED})

    async def signed(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.raw_path == SIGNED else 403, body=PDF)

    async def picture(self, _request: web.Request) -> web.Response:
        return web.Response(body=photograph(2400), content_type="image/jpeg")

    async def moved(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        raise web.HTTPFound(f"{self.elsewhere or self.address}/file")

    async def around(self, _request: web.Request) -> web.Response:
        raise web.HTTPFound("/around")

    async def status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]))

    async def flaky(self, _request: web.Request) -> web.Response:
        self.failures += 1
        if self.failures % 2:
            return web.Response(status=503)
        return web.Response(body=PDF)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65_536))

    async def announced(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=bytes(MAX_BYTES + 1))

    async def broken_off(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-length": "1000"})
        await response.prepare(request)
        await response.write(bytes(10))
        assert request.transport is not None
        request.transport.abort()
        return response

    async def compressed(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b" + bytes(20), headers={"content-encoding": "gzip"})

    async def empty(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"")


async def serve(site: Site) -> web.AppRunner:
    """Starts the site on a free port."""
    application = web.Application()
    for name in ("file", "text", "picture", "moved", "around", "flaky", "endless", "announced", "broken_off"):
        application.router.add_get(f"/{name}", getattr(site, name))
    application.router.add_get("/book", site.book)
    application.router.add_get("/sheet", site.sheet)
    application.router.add_get("/to_signed", site.to_signed)
    application.router.add_get("/signed/{name:.*}", site.signed)
    application.router.add_get("/grüße 1", site.named)
    application.router.add_get("/compressed", site.compressed)
    application.router.add_get("/empty", site.empty)
    application.router.add_get("/status/{status}", site.status)
    runner = web.AppRunner(application)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    site.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    return runner


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served() -> AsyncIterator[Site]:
    site = Site()
    runner = await serve(site)
    yield site
    await runner.cleanup()


@pytest.fixture
def site(served: Site) -> Site:
    served.asked.clear()
    served.elsewhere = ""
    return served


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MediaWorld]:
    settings = {
        "MESH_OBJECTS_URL": tmp_path_factory.mktemp("objects").as_uri(),
        "MESH_MEDIA_MAX_BYTES": str(MAX_BYTES),
        "MESH_MEDIA_FETCH_ALLOW_HTTP": "true",
        "MESH_MEDIA_FETCH_ALLOW_PRIVATE_ADDRESSES": "true",
    }
    with fresh_database(databases, server_loop) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetches, "BACKOFF", Backoff(0.01, 0.02))
        patch.setattr("mesh_media.ingest.later.BACKOFF", Backoff(0.01, 0.02))
        async with media_world(url, etcd, settings) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: MediaWorld) -> MediaTenant:
    return await world.tenant()


def wanted(url: str, request_id: str = "", **fields: Any) -> media_pb2.FetchMediaRequest:
    return media_pb2.FetchMediaRequest(request_id=request_id or ids.new_uuid().hex, url=url, **fields)


async def begin(tenant: MediaTenant, request: media_pb2.FetchMediaRequest) -> media_pb2.Media:
    return (await tenant.media.FetchMedia(request, metadata=tenant.metadata)).media


async def ended(tenant: MediaTenant, media_id: str) -> media_pb2.Media:
    """The media once it is READY or FAILED."""

    async def found() -> media_pb2.Media | None:
        request = media_pb2.GetMediaRequest(media_id=media_id)
        media = (await tenant.media.GetMedia(request, metadata=tenant.metadata)).media
        return None if media.state == content_pb2.MEDIA_STATE_PENDING else media

    media: media_pb2.Media = await eventually(found, what="an end of a fetch")
    return media


async def fetch(tenant: MediaTenant, url: str, **fields: Any) -> media_pb2.Media:
    """Fetches a file to its end, whatever that is."""
    return await ended(tenant, (await begin(tenant, wanted(url, **fields))).id)


def failure(media: media_pb2.Media) -> str:
    """Why it is lost; UNSPECIFIED when it is not."""
    return media_pb2.MediaFailure.Name(media.failure).removeprefix("MEDIA_FAILURE_")


@pytest.mark.read_back("FetchMedia", "GetMedia")
async def test_a_file_is_pending_and_then_ready_with_an_event(tenant: MediaTenant, site: Site) -> None:
    begun = await begin(tenant, wanted(f"{site.address}/file", options={"labels": {"case": "7"}}))
    assert (begun.state, begun.origin) == (content_pb2.MEDIA_STATE_PENDING, media_pb2.MEDIA_ORIGIN_URL)
    media = await ended(tenant, begun.id)
    assert (media.mime_type, media.sha256, dict(media.labels)) == (
        "application/pdf",
        sha256(PDF),
        {"case": "7"},
    )
    assert (media.original_size_bytes, media.original_sha256) == (len(PDF), sha256(PDF))
    assert await tenant.download(media.id) == PDF
    types = await tenant.database.fetch("SELECT type FROM event WHERE tenant = $1", tenant.uuid)
    assert [row["type"] for row in types] == ["media.ready"]


async def test_a_picture_is_processed_like_an_upload(tenant: MediaTenant, site: Site) -> None:
    media = await fetch(tenant, f"{site.address}/picture")
    assert media.size_bytes < len(photograph(2400)) / 4
    assert media.thumbnail.width == 320 or media.thumbnail.height == 320


async def test_what_bytes_do_not_say_the_server_says(tenant: MediaTenant, site: Site) -> None:
    assert (await fetch(tenant, f"{site.address}/text")).mime_type == "text/csv"
    assert (await fetch(tenant, f"{site.address}/book")).mime_type == "application/epub+zip"


async def test_what_neither_bytes_nor_server_say_the_name_says(tenant: MediaTenant, site: Site) -> None:
    media = await fetch(tenant, f"{site.address}/sheet")
    assert (media.file_name, media.mime_type) == ("Preise 2026.csv", "text/csv")


async def test_a_redirect_to_a_signed_address_is_followed_as_it_is_spelled(
    tenant: MediaTenant, site: Site
) -> None:
    assert (await fetch(tenant, f"{site.address}/to_signed")).sha256 == sha256(PDF)


async def test_an_address_may_be_written_as_people_read_it_and_its_server_names_the_file(
    tenant: MediaTenant, site: Site
) -> None:
    media = await fetch(tenant, f"{site.address}/grüße 1?an=ü")
    assert (media.sha256, media.file_name) == (sha256(PDF), "über.pdf")
    named = await fetch(tenant, f"{site.address}/grüße 1?an=ü", options={"file_name": "mine.pdf"})
    assert named.file_name == "mine.pdf"


async def test_headers_are_sent_and_not_stored(tenant: MediaTenant, site: Site) -> None:
    media = await fetch(tenant, f"{site.address}/file", headers={"Authorization": "Bearer secret"})
    assert media.state == content_pb2.MEDIA_STATE_READY
    assert site.asked[0]["Authorization"] == "Bearer secret"
    for table in ("media", "media_work", "event", "request"):
        rows = await tenant.database.fetch(f"SELECT t::text AS row FROM {table} t")
        assert not [row for row in rows if "secret" in row["row"]]


async def test_headers_that_were_lost_with_their_process_fail_the_fetch(
    tenant: MediaTenant, site: Site
) -> None:
    begun = await begin(tenant, wanted(f"{site.address}/status/503"))
    await ended(tenant, begun.id)
    uuid = ids.decode(Prefix.MEDIA, begun.id, "media_id")
    async with tenant.database.transaction():
        await tenant.database.execute("UPDATE media SET state = 1, failure = 0 WHERE id = $1", uuid)
        await tenant.database.execute(
            "INSERT INTO media_work (media, tenant, kind, options, url, with_headers)"
            " VALUES ($1, $2, $3, '', $4, true)",
            uuid,
            tenant.uuid,
            FETCH,
            f"{site.address}/file",
        )
    assert failure(await ended(tenant, begun.id)) == "UNREACHABLE"
    assert site.asked == []


async def test_headers_outlive_a_store_that_does_not_answer_for_a_moment(
    tenant: MediaTenant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, problems = Later.finish, [Unavailable("no answer", "BACKEND_UNAVAILABLE")]

    async def finished(*args: Any) -> None:
        if problems:
            raise problems.pop()
        await finish(*args)

    monkeypatch.setattr(Later, "finish", finished)
    media = await fetch(tenant, f"{site.address}/file", headers={"X-Key": "mine"})
    assert media.state == content_pb2.MEDIA_STATE_READY
    assert [asked.get("X-Key") for asked in site.asked] == ["mine", "mine"]


async def test_a_redirect_is_followed_and_takes_headers_to_no_other_host(
    tenant: MediaTenant, site: Site
) -> None:
    headers = {"X-Key": "mine"}
    assert (await fetch(tenant, f"{site.address}/moved", headers=headers)).sha256 == sha256(PDF)
    assert [asked.get("X-Key") for asked in site.asked] == ["mine", "mine"]
    other = Site()
    runner = await serve(other)
    site.elsewhere = other.address
    assert (await fetch(tenant, f"{site.address}/moved", headers=headers)).sha256 == sha256(PDF)
    assert [asked.get("X-Key") for asked in other.asked] == [None]
    await runner.cleanup()


async def test_a_server_that_fails_once_is_asked_again(tenant: MediaTenant, site: Site) -> None:
    for headers in ({}, {"X-Key": "mine"}):
        media = await fetch(tenant, f"{site.address}/flaky", headers=headers)
        assert media.state == content_pb2.MEDIA_STATE_READY


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("status/404", "GONE"),
        ("status/410", "GONE"),
        ("status/403", "UNREACHABLE"),
        ("status/500", "UNREACHABLE"),
        ("around", "UNREACHABLE"),
        ("broken_off", "UNREACHABLE"),
        ("announced", "TOO_LARGE"),
        ("endless", "TOO_LARGE"),
        ("empty", "CORRUPT"),
        ("compressed", "CORRUPT"),
    ],
)
async def test_a_file_that_cannot_be_had_is_failed_for_its_reason_and_takes_no_room(
    tenant: MediaTenant, site: Site, path: str, reason: str
) -> None:
    media = await fetch(tenant, f"{site.address}/{path}")
    assert (media.state, failure(media)) == (content_pb2.MEDIA_STATE_FAILED, reason)
    await tenant.reserved_settles(0)
    assert (
        await tenant.database.fetchval("SELECT count(*) FROM media_work WHERE tenant = $1", tenant.uuid) == 0
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"mime_type": "image/png"}, "TYPE_MISMATCH"), ({"sha256": bytes(32)}, "CORRUPT")],
    ids=["type", "hash"],
)
async def test_a_file_that_is_not_what_was_announced_is_failed(
    tenant: MediaTenant, site: Site, options: dict[str, Any], reason: str
) -> None:
    assert failure(await fetch(tenant, f"{site.address}/file", options=options)) == reason


async def test_a_file_for_which_there_is_no_room_is_failed(tenant: MediaTenant, site: Site) -> None:
    await tenant.database.execute(
        "UPDATE tenant SET settings = settings || '{\"max_media_bytes\": 1000}' WHERE id = $1", tenant.uuid
    )
    assert failure(await fetch(tenant, f"{site.address}/file")) == "QUOTA"


async def test_a_repeated_request_returns_the_first_media(tenant: MediaTenant, site: Site) -> None:
    request = wanted(f"{site.address}/file", request_id="again")
    first = await begin(tenant, request)
    assert (await begin(tenant, request)).id == first.id
    request.url = f"{site.address}/text"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begin(tenant, request)
    assert refusal_of(caught.value).reason == "REQUEST_ID_REUSED"


async def test_many_of_one_tenant_hold_up_no_other_tenants(tenant: MediaTenant, site: Site) -> None:
    slow = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await slow.wait()
        writer.close()

    silent = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    for _ in range(20):
        await begin(tenant, wanted(f"http://127.0.0.1:{port}/"))
    other = await tenant.world.tenant()
    assert (await fetch(other, f"{site.address}/file")).state == content_pb2.MEDIA_STATE_READY
    slow.set()
    silent.close()


async def test_files_that_are_being_processed_hold_no_place_and_no_headers(
    tenant: MediaTenant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, process = asyncio.Event(), Processor.process

    @asynccontextmanager
    async def processed(self: Processor, tenant: UUID, file: SpooledFile, *args: Any, **more: Any) -> Any:
        if file.head.startswith(b"\xff\xd8"):
            await go_on.wait()
        async with process(self, tenant, file, *args, **more) as made:
            yield made

    monkeypatch.setattr(Processor, "process", processed)
    pictures = [
        await begin(tenant, wanted(f"{site.address}/picture", headers={"X-Key": "mine"})) for _ in range(5)
    ]  # one more than a tenant's places
    assert (await fetch(tenant, f"{site.address}/file")).state == content_pb2.MEDIA_STATE_READY

    async def there() -> bool:
        held = "SELECT count(*) FROM media_work WHERE tenant = $1 AND with_headers"
        return bool(await tenant.database.fetchval(held, tenant.uuid) == 0)

    await eventually(there, what="fetches that no longer need their headers")
    go_on.set()
    for picture in pictures:
        assert (await ended(tenant, picture.id)).size_bytes < len(photograph(2400)) / 4


async def test_headers_of_one_tenants_fetches_leave_room_for_those_of_others(
    tenant: MediaTenant, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_media.api.fetches.MOST_HELD", 4)
    slow = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await slow.wait()
        writer.close()

    silent = await asyncio.start_server(handle, "127.0.0.1", 0)
    request: dict[str, Any] = {
        "url": f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/",
        "headers": {"X-Key": "mine"},
    }
    begun: list[media_pb2.Media] = []

    async def begin_more() -> None:
        while True:
            begun.append(await begin(tenant, wanted(**request)))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begin_more()
    assert refusal_of(caught.value).reason == "RATE_LIMITED"
    other = await tenant.world.tenant()
    media = await fetch(other, f"{site.address}/file", headers={"X-Key": "mine"})
    assert media.state == content_pb2.MEDIA_STATE_READY
    slow.set()
    for each in begun:
        assert failure(await ended(tenant, each.id)) == "UNREACHABLE"
    silent.close()


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"url": "ftp://example.com/a"}, "url"),
        ({"url": "https://user:word@example.com/a"}, "url"),
        ({"url": "https://example.com/" + "a" * 2048}, "url"),
        ({"headers": {"Host": "example.com"}}, "headers"),
        ({"headers": {f"x-{number}": "" for number in range(17)}}, "headers"),
        ({"headers": {"x-key": "a\r\nb"}}, "headers[x-key]"),
        ({"options": {"file_name": "../a"}}, "options.file_name"),
        ({"options": {"mime_type": "picture"}}, "options.mime_type"),
        ({"account_id": "acc_1"}, "account_id"),
    ],
    ids=["scheme", "user", "length", "host", "many", "line break", "name", "type", "account"],
)
async def test_bad_input_is_refused_with_its_field(
    tenant: MediaTenant, fields: dict[str, Any], path: str
) -> None:
    request = media_pb2.FetchMediaRequest(**{"request_id": "bad", "url": "https://example.com/a", **fields})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begin(tenant, request)
    assert [*refusal_of(caught.value).fields] == [path]
    assert await tenant.media_count() == 0


async def test_an_unknown_account_is_not_found(tenant: MediaTenant) -> None:
    request = wanted("https://example.com/a", account_id=ids.encode(Prefix.ACCOUNT, ids.new_uuid()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begin(tenant, request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/a", "https://localhost/a", "https://[::1]/a", "https://169.254.169.254/latest"],
)
async def test_private_addresses_are_not_asked_unless_the_mesh_allows_it(url: str) -> None:
    async with Web(max_bytes=100, allow_http=False, allow_private_addresses=False) as client:
        with pytest.raises(NotFetched) as caught:
            async with client.open(url, {}):
                pass
    assert caught.value.failure == media_pb2.MEDIA_FAILURE_ADDRESS_FORBIDDEN
    assert caught.value.final
