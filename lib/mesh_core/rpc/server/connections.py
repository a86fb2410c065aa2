"""Ends connections of this process by the address of their other end, for which gRPC has no means."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import ExitStack, suppress
from ipaddress import IPv6Address, ip_address
from stat import S_ISSOCK
from urllib.parse import unquote

Peer = tuple[str, int]
"""Address and port; an IPv4 address in IPv6 is the IPv4 one."""


def peer_of(text: str) -> Peer | None:
    """That in gRPC's `ipv4:1.2.3.4:5`, `ipv6:[::1]:5` or `ipv6:%5B::1%5D:5`; None where it is none."""
    kind, _, rest = text.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    return _peer(host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") else None


def end_connections(port: int, peers: Collection[Peer]) -> int:
    """Shut down those of the process's connections to its own `port` that come from `peers`; how many there
    were. It looks at each open descriptor: some 5 us each.

    gRPC sees the end of the connection, as when its other end had closed it, and cancels its calls.
    """
    return sum(_end(int(name), port, peers) for name in os.listdir("/dev/fd"))


def _end(descriptor: int, port: int, peers: Collection[Peer]) -> bool:
    with suppress(OSError), ExitStack() as stack:
        # A copy cannot become another file's in between, as the number of a closed one may.
        copy = os.dup(descriptor)
        stack.callback(os.close, copy)
        if S_ISSOCK(os.fstat(copy).st_mode):
            connection = socket.socket(fileno=copy)
            stack.callback(connection.detach)
            if _is_to(connection, port, peers):
                connection.shutdown(socket.SHUT_RDWR)
                return True
    return False


def _is_to(connection: socket.socket, port: int, peers: Collection[Peer]) -> bool:
    if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.getsockname()[1] != port:
        return False
    host, its_port = connection.getpeername()[:2]
    return _peer(host, its_port) in peers


def _peer(host: str, port: int) -> Peer:
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address), port
