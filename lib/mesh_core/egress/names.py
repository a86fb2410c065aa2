"""Looks names up, each by itself: a name whose server does not answer holds up nobody who asks for another.

The system's own look-up would: it blocks a thread of the few that the process has, long after its caller has
given up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import aiodns

MAX_SECONDS = 3.0
"""How long a look-up takes at most."""

Found = tuple[socket.AddressFamily, str]
"""An address of a name."""


class Names:
    """Asks the hosts file and the name servers of the system, or these `nameservers` (`address:port`)."""

    def __init__(self, nameservers: Sequence[str] = ()) -> None:
        self._nameservers = nameservers
        self._resolver: aiodns.DNSResolver | None = None
        self._failed: dict[tuple[str, int], tuple[float, str]] = {}
        """What was asked in vain lately: until when that counts, and why."""

    async def addresses(self, host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[Found]:
        """The addresses of `host`, one at least. Raises `OSError` when there is none, or nobody says so
        within `MAX_SECONDS`; who asks again within a few seconds is told the same.
        """
        if len(host) > _MAX_LENGTH:  # callers choose it, and what failed is remembered
            raise OSError("it is too long for a name")
        loop = asyncio.get_running_loop()
        known = self._failed.get((host, family))
        if known is not None and known[0] > loop.time():
            raise OSError(known[1])
        if self._resolver is None:
            # One try and a second one: with one name server that is `MAX_SECONDS`
            self._resolver = aiodns.DNSResolver(self._nameservers or None, timeout=1.0, tries=2)
        try:
            async with asyncio.timeout(MAX_SECONDS):
                answer = await self._resolver.getaddrinfo(host, family, type=socket.SOCK_STREAM)
            found = [(socket.AddressFamily(node.family), node.addr[0].decode()) for node in answer.nodes]
            problem = "" if found else "it has no address"
        except TimeoutError:
            problem = f"no answer within {MAX_SECONDS:g} s"
        except (aiodns.error.DNSError, UnicodeError) as error:
            problem = str(error.args[-1])
        if problem:
            if len(self._failed) >= _MAX_FAILED:
                self._failed.clear()
            self._failed[host, family] = (loop.time() + _FAILED_SECONDS, problem)
            raise OSError(problem)
        return found

    async def close(self) -> None:
        """Breaks off what is being asked."""
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


_MAX_LENGTH = 253
_FAILED_SECONDS = 5.0
_MAX_FAILED = 10_000
