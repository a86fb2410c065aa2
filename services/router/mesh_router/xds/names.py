"""Resolves host names in addresses, for clients that accept only IP addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache

import structlog

from mesh_core.signal import Signal

logger = structlog.get_logger(__name__)

LookUp = Callable[[str], Awaitable[frozenset[str]]]
REFRESH_SECONDS = 30.0
RETRY_SECONDS = 2.0
"""Time between two look-ups while a name has not been found yet."""
LOOK_UP_SECONDS = 5.0


async def look_up(host: str) -> frozenset[str]:
    """The IP addresses of a name. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return frozenset(str(entry[4][0]) for entry in found)


class Names:
    """The IP addresses of names. `run` looks them up again and again. A name that is not found any more keeps
    the addresses that it had.
    """

    def __init__(self, look_up: LookUp = look_up) -> None:
        self._look_up = look_up
        self._known: dict[str, frozenset[str]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._new = asyncio.Event()
        self.changes = Signal()
        """Notified after the addresses of a name have changed."""

    def resolve(self, addresses: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The IP addresses and ports of each of `addresses` (host:port); none for a name not found yet.

        Names that are not among `addresses` are forgotten.
        """
        split = {address: address.rpartition(":")[::2] for address in addresses}
        self._wanted = frozenset(host for host, _ in split.values() if not _is_ip(host))
        self._known = {host: ips for host, ips in self._known.items() if host in self._wanted}
        if self._wanted - self._known.keys():
            self._new.set()
        return {
            address: (address,)
            if host not in self._wanted
            else tuple(_joined(ip, port) for ip in sorted(self._known.get(host, ())))
            for address, (host, port) in split.items()
        }

    async def run(self) -> None:
        """Looks names up, until cancelled."""
        while True:
            self._new.clear()
            await asyncio.gather(*(self._refresh(host) for host in self._wanted))
            unknown = self._wanted - self._known.keys()
            try:
                async with asyncio.timeout(RETRY_SECONDS if unknown else REFRESH_SECONDS):
                    await self._new.wait()
            except TimeoutError:
                continue

    async def _refresh(self, host: str) -> None:
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                found = await self._look_up(host)
        except OSError as error:  # a TimeoutError is one too
            logger.warning("name not found", name=host, error=str(error) or "no answer")
            return
        if host in self._wanted and found != self._known.get(host):
            self._known[host] = found
            self.changes.notify()


@lru_cache(maxsize=4096)
def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _joined(ip: str, port: str) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
