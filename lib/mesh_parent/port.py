"""A port that several processes share and that no other program can take."""

from __future__ import annotations

import socket


class ReservedPort:
    """`listen` (host:port) bound, without listening: raises OSError when anyone has it.

    Until it is closed only sockets of this user with SO_REUSEPORT can bind the port.
    """

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        chosen = int(port)
        self._sockets: list[socket.socket] = []
        for family, kind, _, _, address in socket.getaddrinfo(
            host.strip("[]"), chosen, type=socket.SOCK_STREAM
        ):
            one = socket.socket(family, kind)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Connections of an earlier process that are not over yet are no reason to refuse; a listener is.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((address[0], chosen, *address[2:]))
            # Only now: bound with SO_REUSEPORT, it would have joined others that share the port already.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            chosen = one.getsockname()[1]
            self._sockets.append(one)
        self.address = f"{host}:{chosen}"
        """host:port; a free port was chosen for port 0."""

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def port_after(address: str, number: int) -> str:
    """`address` (host:port) with its port `number` higher; port 0 stays, each takes a free one."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + number}" if int(port) else address
