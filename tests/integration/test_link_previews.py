"""Previews of links, read from real servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from mesh_core.egress import AddressForbidden, CheckedResolver
from mesh_core.ids import new_uuid
from mesh_session_node.journal import AccountRef
from mesh_session_node.outbound import link_previews
from mesh_session_node.outbound.link_previews import MAX_PAGE_BYTES, LinkPreviews
from mesh_session_node.outbound.page_head import PageHead
from tests.support.eventually import eventually
from tests.support.web_server import endless

JPEG = b"\xff\xd8\xff\xe0" + b"picture" * 100
HTML = "text/html"
SOMEBODY = AccountRef(new_uuid(), new_uuid(), 1, 1)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Site:
    """A web server; what a path answers with is what the test puts there."""

    url: str = ""
    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def put(self, path: str, body: bytes | str, kind: str = HTML, **headers: str) -> str:
        """Serves `body` at `path`; returns its address."""
        data = body.encode() if isinstance(body, str) else body

        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.Response(body=data, content_type=kind, headers=headers)

        self.pages[path] = answer
        return self.url + path

    def redirect(self, path: str, to: str) -> str:
        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=302, headers={"location": to})

        self.pages[path] = answer
        return self.url + path

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers = dict(request.headers)
        answer = self.pages.get(request.path)
        return await answer(request) if answer else web.Response(status=404)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def previews() -> AsyncIterator[LinkPreviews]:
    async with LinkPreviews(allow_private_addresses=True) as made:
        yield made


def page(head: str) -> str:
    return f"<html><head>{head}</head><body>hello</body></html>"


async def test_a_page_is_shown_with_its_title_text_and_picture(site: Site, previews: LinkPreviews) -> None:
    site.put("/shoe.jpg", JPEG, "image/jpeg")
    url = site.put(
        "/shop",
        page(
            "<title>Shop</title><meta name=description content='All we sell'>"
            "<meta property=og:image content=shoe.jpg>"
        ),
    )
    preview = await previews.read(url, SOMEBODY)
    assert preview is not None
    assert (preview.url, preview.title, preview.description) == (url, "Shop", "All we sell")
    assert preview.thumbnail == JPEG


async def test_redirects_are_followed_and_the_link_stays_as_it_stands(
    site: Site, previews: LinkPreviews
) -> None:
    site.put("/d/page", page("<title>There</title><meta property=og:image content=p.jpg>"))
    site.put("/d/p.jpg", JPEG, "image/jpeg")
    site.redirect("/c", "/d/page")
    site.redirect("/b", site.url + "/c")
    url = site.redirect("/a", "b")
    preview = await previews.read(url, SOMEBODY)
    assert preview is not None
    assert (preview.url, preview.title, preview.thumbnail) == (url, "There", JPEG)


async def test_a_fourth_redirect_is_not_followed(site: Site, previews: LinkPreviews) -> None:
    site.put("/e", page("<title>There</title>"))
    for here, there in ("de", "cd", "bc", "ab"):
        site.redirect(f"/{here}", f"/{there}")
    assert await previews.read(site.url + "/a", SOMEBODY) is None
    assert "/e" not in site.asked


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
async def test_a_private_address_is_never_asked(site: Site, host: str) -> None:
    url = site.put("/", page("<title>Secret</title>")).replace("127.0.0.1", host)
    async with LinkPreviews(allow_private_addresses=False) as strict:
        assert await strict.read(url, SOMEBODY) is None
    assert site.asked == []


@pytest.mark.parametrize("to", ["/private", "http://localhost:{port}/private", "http://127.1:{port}/private"])
async def test_a_redirect_to_a_private_address_is_not_followed(
    site: Site, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    site.put("/private", page("<title>Secret</title>"))
    port = site.url.rpartition(":")[2]
    url = site.redirect("/public", to.format(port=port))
    async with LinkPreviews(allow_private_addresses=False) as strict:
        first = True

        def only_the_first_passes(_self: object, _host: str, address: object) -> None:
            nonlocal first
            if not first:
                raise AddressForbidden(f"{address} is not public")
            first = False

        monkeypatch.setattr(CheckedResolver, "_check", only_the_first_passes)
        assert await strict.read(url, SOMEBODY) is None
    assert site.asked == ["/public"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://",
        "http://a b/",
        "http://u:p@127.0.0.1/",
        "nothing",
        "http://127.0.0.1:99999/",
        "http://[::1/",
    ],
)
async def test_what_is_no_address_of_a_page_has_no_preview(previews: LinkPreviews, url: str) -> None:
    assert await previews.read(url, SOMEBODY) is None


@pytest.mark.parametrize(
    "to", ["ftp://example.org/", "http://[", "//", "http:///x", "javascript:x", "data:text/html,x"]
)
async def test_a_redirect_to_what_is_no_address_of_a_page_ends_there(
    site: Site, previews: LinkPreviews, to: str
) -> None:
    assert await previews.read(site.redirect("/a", to), SOMEBODY) is None


@pytest.mark.parametrize("kind", ["application/pdf", "image/jpeg", "text/plain"])
async def test_only_pages_are_read(site: Site, previews: LinkPreviews, kind: str) -> None:
    assert await previews.read(site.put("/a", page("<title>x</title>"), kind), SOMEBODY) is None


async def test_nothing_compressed_is_unpacked(site: Site, previews: LinkPreviews) -> None:
    packed = gzip.compress(page("<title>x</title>").encode())
    assert await previews.read(site.put("/a", packed, HTML, **{"content-encoding": "gzip"}), SOMEBODY) is None


async def test_a_page_that_says_nothing_has_no_preview(site: Site, previews: LinkPreviews) -> None:
    assert await previews.read(site.put("/a", page("")), SOMEBODY) is None


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (b"\x89PNG", "image/png"),
        (JPEG + bytes(64_000), "image/jpeg"),
        (b"no picture", "image/jpeg"),
        (JPEG, HTML),
    ],
)
async def test_a_picture_that_is_no_small_jpeg_is_left_out(
    site: Site, previews: LinkPreviews, picture: bytes, kind: str
) -> None:
    site.put("/p", picture, kind)
    preview = await previews.read(
        site.put("/a", page("<title>x</title><meta property=og:image content=/p>")), SOMEBODY
    )
    assert preview is not None
    assert (preview.title, preview.thumbnail) == ("x", b"")


async def test_of_a_long_page_only_the_beginning_is_read(site: Site, previews: LinkPreviews) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"content-type": HTML})
        await response.prepare(request)
        await response.write(b"<title>Long</title>")
        while True:
            await response.write(b" " * 65_536)
            sent += 65_536

    site.pages["/a"] = endless
    preview = await previews.read(site.url + "/a", SOMEBODY)
    assert preview is not None
    assert preview.title == "Long"
    assert sent < 100 * MAX_PAGE_BYTES


async def test_of_a_page_no_more_than_its_head_is_read(site: Site, previews: LinkPreviews) -> None:
    async def never_ends(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": HTML})
        await response.prepare(request)
        await response.write(b"<head><title>Long</title></h")  # an end that comes in two pieces
        await response.write(b"ead><body>")
        return await hang(request)

    site.pages["/a"] = never_ends
    preview = await previews.read(site.url + "/a", SOMEBODY)
    assert preview is not None
    assert preview.title == "Long"


async def test_slow_pages_of_one_tenant_hold_up_no_other_tenants_pages(
    site: Site, previews: LinkPreviews
) -> None:
    site.pages["/slow"] = hang
    accounts = [AccountRef(new_uuid(), SOMEBODY.tenant, 1, 1) for _ in range(20)]
    slow = [asyncio.create_task(previews.read(site.url + "/slow", account)) for account in accounts]
    await eventually(lambda: len(site.asked) >= 8)
    url = site.put("/a", page("<title>x</title>"))
    assert await previews.read(url, AccountRef(new_uuid(), new_uuid(), 1, 1)) is not None
    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()


async def test_a_slow_page_has_no_preview(
    site: Site, previews: LinkPreviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_previews, "MAX_SECONDS", 0.2)
    site.pages["/a"] = hang
    assert await previews.read(site.url + "/a", SOMEBODY) is None


async def test_a_server_that_never_gets_to_its_answer_is_left_at_once(
    previews: LinkPreviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_previews, "MAX_SECONDS", 60)
    async with endless(b"HTTP/1.1 100 Continue\r\n\r\n") as url, asyncio.timeout(5):
        assert await previews.read(url, SOMEBODY) is None


async def test_a_slow_picture_is_left_out(
    site: Site, previews: LinkPreviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_previews, "MAX_SECONDS", 0.5)
    site.pages["/p"] = hang
    preview = await previews.read(
        site.put("/a", page("<title>x</title><meta property=og:image content=/p>")), SOMEBODY
    )
    assert preview is not None
    assert (preview.title, preview.thumbnail) == ("x", b"")


async def test_a_page_in_a_charset_that_there_is_no_codec_for_is_read(
    site: Site, previews: LinkPreviews
) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        body = page("<title>Tea</title>").encode()
        return web.Response(body=body, headers={"content-type": "text/html; charset=utf16le"})

    site.pages["/a"] = answer
    preview = await previews.read(site.url + "/a", SOMEBODY)
    assert preview is not None
    assert preview.title == "Tea"


async def test_whatever_fails_in_reading_a_page_only_its_preview_is_missing(
    site: Site, previews: LinkPreviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_page: bytes, _charset: str) -> PageHead:
        raise LookupError("a fault of ours")

    monkeypatch.setattr(link_previews, "read_head", broken)
    assert await previews.read(site.put("/a", page("<title>x</title>")), SOMEBODY) is None


async def test_a_caller_who_gives_up_is_not_held(site: Site, previews: LinkPreviews) -> None:
    site.pages["/a"] = hang
    reading = asyncio.create_task(previews.read(site.url + "/a", SOMEBODY))
    await eventually(lambda: site.asked)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_the_request_tells_nothing_of_the_mesh(site: Site, previews: LinkPreviews) -> None:
    await previews.read(site.put("/a", page("<title>x</title>"), **{"set-cookie": "a=b"}), SOMEBODY)
    await previews.read(site.url + "/a", SOMEBODY)
    assert {name.lower() for name in site.headers} == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
    }


async def hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError
