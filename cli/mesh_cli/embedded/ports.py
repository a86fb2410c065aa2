"""Loopback TCP ports for servers that must be told theirs."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral range: between the check and the server's own bind, no outgoing connection can
# be given the port.
LOWEST = 15_000
HIGHEST = 31_999


_given: set[int] = set()


def free_port() -> int:
    """A loopback TCP port that nothing listens on now, and that this process was not given before."""
    chooser = random.SystemRandom()
    while True:
        port = chooser.randint(LOWEST, HIGHEST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        _given.add(port)
        return port
