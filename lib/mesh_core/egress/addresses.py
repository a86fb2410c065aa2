"""Which addresses the mesh connects to for a caller: public ones, written plainly."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

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


def check_spelling(host: str) -> None:
    """Raises `AddressForbidden` for an IPv4 address in another spelling than four decimal numbers (`127.1`,
    `0x7f.1`, `2130706433`), and for what no name can be, since its last label is a number: who connects may
    read there what a check has not.
    """
    if literal_address(host) is None and _ends_in_a_number(host):
        raise AddressForbidden(f"{host} is neither a name nor an address in plain form")


_ends_in_a_number = re.compile(r"(.*\.)?(\d+|0[xX][0-9a-fA-F]*)\.?", re.DOTALL).fullmatch
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
