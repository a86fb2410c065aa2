"""Protection against server-side request forgery: no address that a caller names leads into our own network.

Names are resolved here, every answer is checked, and the connection is made to the very addresses that were
checked, so that a name cannot mean one thing to the check and another to the connection. One bad address
among good ones is enough to refuse. Whoever follows a redirect checks its address as the first one.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

Address = IPv4Address | IPv6Address


class AddressForbidden(OSError):
    """The host is, or resolves to, an address that the mesh does not connect to for a caller."""


def is_forbidden(address: Address) -> bool:
    """Whether `address` is anything but plain public unicast.

    IPv6 is allowed by range: only 2000::/3, and of that nothing that carries an IPv4 address in it. So
    IPv4-mapped, NAT64 and 6to4 forms are refused whatever they lead to.
    """
    if isinstance(address, IPv4Address):
        return any(address in network for network in _FORBIDDEN_V4)
    return address not in _UNICAST_V6 or any(address in network for network in _FORBIDDEN_V6)


def literal_address(host: str) -> Address | None:
    """The address that `host` is, or None for a name."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


class CheckedResolver(AbstractResolver):
    """Resolves names for aiohttp, and raises `AddressForbidden` unless all addresses of a name are allowed.

    aiohttp does not call it for literal addresses: check those with `check_literal`.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        results: list[ResolveResult] = []
        for kind, _type, protocol, _name, target in found:
            address = str(target[0])
            self._check(host, ip_address(address.partition("%")[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    def check_literal(self, host: str) -> None:
        """Raises `AddressForbidden` when `host` is a literal forbidden address; names pass."""
        address = literal_address(host)
        if address is not None:
            self._check(host, address)

    async def close(self) -> None:
        """Part of aiohttp's interface; there is nothing to close."""

    def _check(self, host: str, address: Address) -> None:
        if not self._allow_private and is_forbidden(address):
            shown = host if host == str(address) else f"{host} ({address})"
            raise AddressForbidden(f"{shown} is not a public address")


# By IANA's registries of special-purpose addresses, written out: Python's own `is_global` changes by version.
_FORBIDDEN_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_UNICAST_V6 = IPv6Network("2000::/3")
_FORBIDDEN_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
)
