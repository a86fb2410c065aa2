"""Loopback TCP ports for servers that must be told theirs."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral range: between the check and the server's own bind, no outgoing connection can
# be given the port.
LOWEST = 15_000
HIGHEST = 31_999


def free_port() -> int:
    """A loopback TCP port that nothing listens on, and that no caller of this, in any process, was given.

    That lasts as long as this process: its sign is the same port of UDP, which no server of ours uses.
    """
    chooser = random.SystemRandom()
    while True:
        port = chooser.randint(LOWEST, HIGHEST)
        with socket.socket(type=socket.SOCK_DGRAM) as sign, socket.socket() as probe:
            try:
                sign.bind((LOOPBACK, port))
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            sign.detach()  # stays open as long as we live
        return port
