"""Loopback TCP ports for servers that must be told theirs.

Between the choice of a port and the server's own bind, somebody else may take it. So a server is started with
`ChosenPorts`: when it fails and one of its ports is taken, the ports are chosen anew and it is started again.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral range, so that no outgoing connection is given the port meanwhile.
LOWEST = 15_000
HIGHEST = 31_999
START_ATTEMPTS = 5
_TCP_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""gRPC binds IPv4 addresses with IPv6 sockets."""
_LISTENING = "0A"


def free_port() -> int:
    """A loopback TCP port that nothing listens on, and that no caller of this, in any process, was given.

    That lasts as long as this process: its sign is the same port of UDP, which no server of ours uses.
    """
    chooser = random.SystemRandom()
    while True:
        port = chooser.randint(LOWEST, HIGHEST)
        if is_taken(port):
            continue
        with socket.socket(type=socket.SOCK_DGRAM) as sign, contextlib.suppress(OSError):
            sign.bind((LOOPBACK, port))
            sign.detach()  # stays open as long as we live
            return port


def is_taken(port: int) -> bool:
    """Whether a server on loopback cannot bind `port` now."""
    with socket.socket() as probe:
        # As servers do: connections of the server before may be in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def children(pid: int) -> list[int]:
    """The processes that a process has as its children; none when it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


class ChosenPorts:
    """The ports of one server, by what each is for. They stay the same once the server has run on them."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}
        self._kept = False

    def port(self, purpose: str) -> int:
        """The port for `purpose`, chosen when it is first asked for."""
        if purpose not in self._ports:
            self._ports[purpose] = free_port()
        return self._ports[purpose]

    async def start(self, start: Callable[[], Awaitable[None]], failure: type[Exception]) -> None:
        """Await `start()`, which asks for ports and raises `failure` when the server ended.

        It is called again, with other ports, when one of them turns out to be taken.
        """
        for attempt in range(START_ATTEMPTS):
            try:
                await start()
            except failure:
                if self._kept or attempt == START_ATTEMPTS - 1 or not self._forget_when_taken():
                    raise
            else:
                self._kept = True
                return

    def listened_by(self, pid: int) -> bool:
        """Whether `pid`, or a process below it, listens on every port chosen.

        Something else that listens there might answer as the server would.
        """
        if not _TCP_SOCKETS[0].exists():  # a system without /proc
            return True
        return set(self._ports.values()) <= _listened_ports(pid)

    def _forget_when_taken(self) -> bool:
        if not any(is_taken(port) for port in self._ports.values()):
            return False
        self._ports.clear()
        return True


def _listened_ports(pid: int) -> set[int]:
    """The ports that a process and those below it listen on."""
    processes = [pid]
    for process in processes:
        processes += children(process)
    descriptors = set()
    for process in processes:
        with contextlib.suppress(OSError):  # it ended
            descriptors |= {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir()}
    ports = set()
    for table in _TCP_SOCKETS:
        for line in table.read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state == _LISTENING and f"socket:[{inode}]" in descriptors:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports
