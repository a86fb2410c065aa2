"""Which addresses the mesh connects to for a caller."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mesh_core.egress import AddressForbidden, CheckedResolver, is_forbidden
from tests.support.memory_names import resolver

FORBIDDEN = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.7",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:0808:0808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_everything_but_public_unicast_is_forbidden(address: str) -> None:
    assert is_forbidden(ip_address(address))


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_are_allowed(address: str) -> None:
    assert not is_forbidden(ip_address(address))


async def test_the_addresses_connected_to_are_those_that_were_checked() -> None:
    found = await resolver("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c").resolve(
        "example.org", 443
    )
    assert [one["host"] for one in found] == ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
    assert {one["hostname"] for one in found} == {"example.org"}
    assert all(one["flags"] & socket.AI_NUMERICHOST for one in found)


async def test_one_forbidden_address_among_good_ones_refuses_the_name() -> None:
    with pytest.raises(AddressForbidden, match=r"example\.org \(169\.254\.169\.254\)"):
        await resolver("93.184.215.14", "169.254.169.254").resolve("example.org", 443)


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "::ffff:10.0.0.1", "fe80::1%eth0"])
def test_a_literal_address_is_checked_without_resolving(host: str) -> None:
    with pytest.raises(AddressForbidden):
        resolver().check_literal(host)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "0",
        "2130706433",
        "0x7f.1",
        "0X7F000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "8.8.2056",
        "example.0",
        "\uff11\uff12\uff17.1",
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
async def test_an_address_in_another_spelling_is_refused_and_never_asked_for(
    host: str, allow_private: bool
) -> None:
    checked = CheckedResolver(allow_private=allow_private, names=cast("Any", None))
    with pytest.raises(AddressForbidden):
        checked.check_literal(host)
    with pytest.raises(AddressForbidden):
        await checked.resolve(host, 80)


@pytest.mark.parametrize("host", ["example.org", "0x.example", "1.example", "a1", "127.0.0.1.example."])
def test_names_that_have_numbers_in_them_are_names(host: str) -> None:
    resolver().check_literal(host)


async def test_private_addresses_pass_where_the_settings_allow_them() -> None:
    allowing = resolver(allow_private=True)
    allowing.check_literal("127.0.0.1")
    assert await allowing.resolve("localhost", 80)
