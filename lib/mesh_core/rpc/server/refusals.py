"""Addresses whose calls are refused over and over lose their connections.

A refusal costs a fraction of a call that is served, but those that wait to be refused stand in the way of
everybody else's. A connection that has ended takes all of its own with it, unread.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from mesh_core.errors import ResourceExhausted, Unauthenticated, Unimplemented
from mesh_core.metrics import counter
from mesh_core.rpc.limits.entry import Sources
from mesh_core.rpc.server.connections import Peer, peer_of

REFUSED_OF_ADDRESS = 1_000
"""Refused calls of an address in a window, after which it is closed to more of them."""
WINDOW_SECONDS = 10.0
CLOSED_SECONDS = 60.0
REFUSED_OF_CONNECTION = 20
"""Refused calls of one connection in a window, from an address that is closed: then it ends. So one of
somebody else there, whose key has just expired, is told why.
"""
LEFT_SECONDS = 30.0
MAX_ADDRESSES = 10_000
MAX_ENDED = 10_000
ENDED = counter(
    "mesh_server_connections_ended_total",
    "Connections ended as too many calls of their address were refused.",
    answers="Does somebody flood this part without a key?",
)

End = Callable[[Collection[Peer]], int]
"""Ends the connections of these, and tells how many there were; it may take a while."""


@dataclass(slots=True)
class _Address:
    window_end: float
    refused: int = 0
    closed_until: float = 0.0
    of_connection: Counter[str] = field(default_factory=Counter)


class Refusals:
    """Counts the refused calls of callers who are not known. `end` is called in a thread."""

    def __init__(self, sources: Sources, end: End) -> None:
        self._sources = sources
        self._end = end
        self._addresses: dict[str, _Address] = {}
        self._doomed: set[Peer] = set()
        self._ended: dict[str, float] = {}
        """Until when calls of these may still come; no system gives out the same port again before."""
        self._ending: asyncio.Task[None] | None = None

    def count(self, error: Exception, context: Any) -> None:
        """A call was refused with `error` before it was known who calls. Through a trusted proxy it counts
        for nothing: others share that connection.
        """
        if not isinstance(error, REFUSED) or not self._sources.are_callers(context):
            return
        now = time.monotonic()
        address = self._address(self._sources.of(context), now)
        address.refused += 1
        if address.refused > REFUSED_OF_ADDRESS:
            address.closed_until = now + CLOSED_SECONDS
        if now < address.closed_until:
            connection = context.peer()
            address.of_connection[connection] += 1
            if address.of_connection[connection] == REFUSED_OF_CONNECTION:
                self._doom(connection, now)

    def ended(self, context: Any) -> bool:
        """Whether a call's connection was ended: gRPC still brings the calls that it took before."""
        return bool(self._ended) and self._ended.get(context.peer(), 0.0) > time.monotonic()

    async def close(self) -> None:
        """Wait for connections that are being ended."""
        if self._ending is not None:
            await asyncio.wait([self._ending])

    def _address(self, name: str, now: float) -> _Address:
        address = self._addresses.get(name)
        if address is None:
            if len(self._addresses) >= MAX_ADDRESSES:
                del self._addresses[next(iter(self._addresses))]  # the oldest
            address = self._addresses[name] = _Address(now + WINDOW_SECONDS)
        elif now >= address.window_end:
            address.window_end = now + WINDOW_SECONDS
            address.refused = 0
            address.of_connection.clear()
        return address

    def _doom(self, connection: str, now: float) -> None:
        peer = peer_of(connection)
        if peer is not None:
            if len(self._ended) >= MAX_ENDED:
                self._ended.clear()
            self._ended[connection] = now + LEFT_SECONDS
            self._doomed.add(peer)
            if self._ending is None:
                self._ending = asyncio.create_task(self._end_doomed(), name="end connections")

    async def _end_doomed(self) -> None:
        """Until there are none: those that come meanwhile are ended together."""
        try:
            while self._doomed:
                doomed, self._doomed = self._doomed, set()
                ENDED.inc(await asyncio.to_thread(self._end, doomed))
        finally:
            self._ending = None


REFUSED = (Unauthenticated, ResourceExhausted, Unimplemented)
"""What callers who are not known are refused with."""
