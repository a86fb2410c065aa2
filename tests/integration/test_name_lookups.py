"""Names that callers chose, asked of a real name server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mesh_core.egress import AddressForbidden, CheckedResolver, Names
from mesh_core.egress.names import MAX_SECONDS
from tests.support.eventually import eventually
from tests.support.name_server import NameServer, name_server

DEAD = 60
"""More names that never get an answer than any pool of threads has."""


@pytest.fixture
async def server() -> AsyncIterator[tuple[NameServer, Names]]:
    async with name_server("93.184.215.14") as (running, address):
        names = Names([address])
        yield running, names
        await names.close()


async def test_a_name_has_the_addresses_that_its_server_says(server: tuple[NameServer, Names]) -> None:
    assert await server[1].addresses("example.org") == [(socket.AF_INET, "93.184.215.14")]


async def test_names_that_never_get_an_answer_hold_up_no_other_name(
    server: tuple[NameServer, Names],
) -> None:
    running, names = server
    dead = [asyncio.create_task(names.addresses(f"dead{n}.example")) for n in range(DEAD)]
    await eventually(lambda: running.asked >= DEAD)
    began = time.monotonic()
    assert await names.addresses("example.org")
    assert time.monotonic() - began < 1.0
    assert not any(task.done() for task in dead)
    # Nor do they hold up what else the process looks up
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(1.0):
        await loop.getaddrinfo("localhost", 80)
    for task in dead:
        task.cancel()


async def test_a_look_up_ends_when_its_time_is_over(server: tuple[NameServer, Names]) -> None:
    began = time.monotonic()
    with pytest.raises(OSError, match=r"within|Timeout"):
        await server[1].addresses("dead.example")
    assert time.monotonic() - began < MAX_SECONDS + 1.0


async def test_a_name_that_was_asked_for_in_vain_is_not_asked_for_again_at_once(
    server: tuple[NameServer, Names],
) -> None:
    running, names = server
    running.addresses = []
    for _ in range(3):
        with pytest.raises(OSError, match=r"data|address"):
            await names.addresses("none.example")
    assert running.asked == 2  # for IPv4 and for IPv6
    running.addresses = ["93.184.215.14"]
    assert await names.addresses("some.example")


async def test_names_of_the_hosts_file_are_known(server: tuple[NameServer, Names]) -> None:
    listed = names_of_the_hosts_file()
    if not listed:
        pytest.skip("the hosts file names nothing but localhost")
    assert await server[1].addresses(listed[0])
    assert server[0].asked == 0


async def test_a_client_connects_to_what_was_checked_and_to_nothing_private() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with name_server("127.0.0.1") as (_, address):
        for private in (True, False):
            resolver = CheckedResolver(allow_private=private, names=Names([address]))
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
                if private:
                    async with session.get(f"http://hook.example:{port}/") as response:
                        assert await response.text() == "hello"
                else:
                    with pytest.raises(aiohttp.ClientConnectorDNSError) as refused:
                        await session.get(f"http://hook.example:{port}/")
                    assert isinstance(refused.value.os_error, AddressForbidden)
            await resolver.close()
    await runner.cleanup()


def names_of_the_hosts_file() -> list[str]:
    """Without `localhost`, which is known without a file."""
    lines = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    return [name for _, *names in filter(None, lines) for name in names if "localhost" not in name]


async def test_what_is_too_long_for_a_name_is_neither_asked_for_nor_remembered(
    server: tuple[NameServer, Names],
) -> None:
    with pytest.raises(OSError, match="too long"):
        await server[1].addresses("a." * 30_000 + "example")
    assert not server[1]._failed
