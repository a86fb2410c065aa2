"""Which proxies accounts may have, and where they are looked for."""

from __future__ import annotations

import pytest

from mesh_core.egress import check_proxy
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_session_node.context.proxies import Proxies
from mesh_session_node.drivers.interface.device import Proxy
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded
from tests.hostile.hosts import FORBIDDEN
from tests.support.memory_names import resolver

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.example",
        "https://anna:secret@proxy.example:8443/",
        "socks5://93.184.215.14:1080",
        "http://[2606:4700:4700::1111]:3128",
    ],
)
async def test_proxies_at_public_addresses_are_taken(url: str) -> None:
    assert await check_proxy("proxy_url", url, resolver(PUBLIC)) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:3128",
        "http://localhost:3128",
        "socks5://127.0.0.1",
        "socks5://127.1",
        "socks5://inside.example",
        "https://[::ffff:127.0.0.1]",
    ],
)
async def test_proxies_in_the_meshs_own_network_are_refused(url: str) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        await check_proxy("proxy_url", url, resolver(PUBLIC, "10.0.0.1"))
    assert refused.value.reason == "ADDRESS_FORBIDDEN"


@pytest.mark.parametrize("host", FORBIDDEN)
async def test_no_spelling_of_a_host_of_ours_passes(host: str) -> None:
    with pytest.raises((FailedPrecondition, InvalidField)):
        await check_proxy("proxy_url", f"http://{host}:3128", resolver("10.0.0.1"))


async def test_the_operator_may_allow_them() -> None:
    assert await check_proxy("proxy_url", "http://10.0.0.1:3128", resolver(allow_private=True))


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "ftp://proxy.example",
        "socks5://@",
        "http://proxy.example/a",
        "http://proxy.example?a",
        "http://proxy.example#a",
        "http://proxy.example:0",
        "http://proxy.example:65536",
        "http://pröxy.example",
        "http://pro xy.example",
        "http://-.example",
        f"socks5://{'u' * 256}:p@proxy.example",
        "socks5://:p@proxy.example",
        "http://" + "p" * 2048,
    ],
)
async def test_what_is_no_proxy_is_refused_without_saying_it_again(url: str) -> None:
    with pytest.raises(InvalidField) as refused:
        await check_proxy("proxy_url", url, resolver(PUBLIC))
    assert refused.value.field == "proxy_url"
    assert url not in refused.value.message


async def test_the_address_is_looked_up_and_checked_before_each_connection() -> None:
    proxies = Proxies(allow_private=False)
    assert await proxies.found("") is None
    found = await proxies.found("socks5://anna:secret@93.184.215.14")
    assert found == Proxy("socks5://anna:secret@93.184.215.14", "93.184.215.14", 1080)
    assert "secret" not in repr(found)
    with pytest.raises(ConnectionEnded):
        await proxies.found("socks5://127.0.0.1:1080")
    await proxies.close()
