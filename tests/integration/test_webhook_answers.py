"""What is sent is what was given, and what an endpoint answers is read as far as it matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesh_webhook.deliveries.http_sender import HttpSender, OutgoingRequest
from mesh_webhook.deliveries.settings import WebhookSettings
from tests.support.web_server import endless

SETTINGS = WebhookSettings(
    retry_schedule=(0,), timeout_seconds=3, lease_seconds=10, allow_http=True, allow_private_addresses=True
)


@asynccontextmanager
async def server(answer: bytes, heads: list[bytes]) -> AsyncIterator[str]:
    """Answers every request with these bytes; notes their heads."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"


def request(url: str) -> OutgoingRequest:
    return OutgoingRequest(url, {}, "del_1", b"{}", [b"k" * 24])


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "a header of 60 kB": OK + b"x-a: " + b"a" * 60_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "500 headers": OK + b"".join(b"x-%d: a\r\n" % n for n in range(500)) + b"content-length: 0\r\n\r\n",
    "the length twice": OK + b"content-length: 0\r\ncontent-length: 0\r\n\r\n",
    "two lengths": OK + b"content-length: 0\r\ncontent-length: 1\r\n\r\n",
    "length and chunks": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "no name": OK + b": a\r\ncontent-length: 0\r\n\r\n",
    "no colon": OK + b"nonsense\r\ncontent-length: 0\r\n\r\n",
    "bytes that are no text": OK + b"x-a: \xff\xfe\x80\r\ncontent-length: 0\r\n\r\n",
    "a retry that is no time": OK + b"retry-after: \xff, 99999999999 Foo\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_200_is_a_200_whatever_its_headers(name: str) -> None:
    async with server(ANSWERS[name], []) as url, HttpSender(SETTINGS) as sender:
        result = await sender.send(request(url))
    assert (result.status, result.succeeded) == (200, True), result.error


async def test_a_failure_with_odd_headers_is_that_failure() -> None:
    odd = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\ncontent-length: 1\r\n\r\n"
    async with server(odd, []) as url, HttpSender(SETTINGS) as sender:
        result = await sender.send(request(url))
    assert (result.status, result.error) == (503, "HTTP 503")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 100 Continue\r\n\r\nx\r\n\r\n", b"\0" * 99]
)
async def test_what_is_no_answer_is_a_failure_in_words_that_can_be_stored(answer: bytes) -> None:
    async with server(answer, []) as url, HttpSender(SETTINGS) as sender:
        result = await sender.send(request(url))
    assert result.status is None
    assert result.error.isprintable()
    assert 0 < len(result.error) <= 300


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n" + (b"link: " + b"a" * 8000 + b"\r\n") * 30 + b"\r\n"
EMPTY_OK = OK + b"content-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (CONTINUE * 8 + EMPTY_OK, 200),
        (CONTINUE * 9 + EMPTY_OK, None),
        (EARLY_HINTS * 4 + EMPTY_OK, 200),
        (EARLY_HINTS * 5 + EMPTY_OK, None),
    ],
)
async def test_a_few_informational_answers_may_come_before_the_one_that_counts(
    answer: bytes, status: int | None
) -> None:
    async with server(answer, []) as url, HttpSender(SETTINGS) as sender:
        result = await sender.send(request(url))
    assert result.status == status, result.error


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "piece", "problem"),
    [
        (b"", CONTINUE, "too many answers"),
        (b"", b"\r\n", "the answer is too long"),
        (CHUNKED + b"1;", b"extension", "ClientPayloadError"),
    ],
)
async def test_an_endpoint_whose_answer_never_ends_has_failed_at_once(
    start: bytes, piece: bytes, problem: str
) -> None:
    async with endless(piece, start) as url, HttpSender(SETTINGS) as sender:
        results = await asyncio.gather(*[sender.send(request(url)) for _ in range(4)])
    for result in results:
        assert result.status is None
        assert problem in result.error
        assert result.seconds < SETTINGS.timeout_seconds


async def test_of_a_body_that_never_ends_the_beginning_is_enough() -> None:
    async with endless(b"body", OK + b"\r\n") as url, HttpSender(SETTINGS) as sender:
        results = await asyncio.gather(*[sender.send(request(url)) for _ in range(4)])
    assert [(result.status, result.body[:4]) for result in results] == [(200, b"body")] * 4


async def test_the_answer_before_on_the_same_connection_is_not_taken_for_this_one() -> None:
    answers = [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"nonsense\r\n\r\n"]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(answer)
        await writer.drain()
        writer.close()

    running = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with running, HttpSender(SETTINGS) as sender:
        url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        results = [await sender.send(request(url)) for _ in range(2)]
    assert [result.status for result in results] == [200, None]


@pytest.mark.parametrize(
    "path",
    [
        "/a%2Fb/%7Euser?sig=a+b%20c%2B%2f&x=%e4",
        "/a/../b//c?q=[1]{2}|^",
        "/?a=b;c=d&&e=%41",
        "/%C3%A4?%c3%a4=%22",
    ],
)
async def test_a_url_is_sent_byte_for_byte(path: str) -> None:
    heads: list[bytes] = []
    async with (
        server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", heads) as url,
        HttpSender(SETTINGS) as sender,
    ):
        await sender.send(request(url + path))
    assert heads[0].split(b" ")[1].decode() == path


@pytest.mark.parametrize(
    "url", ["http://a..b/", f"http://{'a' * 64}/", "http://[::1/", "http://h:99999/", "x"]
)
async def test_a_url_from_before_hosts_were_checked_fails_and_raises_nothing(url: str) -> None:
    async with HttpSender(SETTINGS) as sender:
        result = await sender.send(request(url))
    assert result.status is None
    assert result.error
