"""The plain road: to the routers, over a connection to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from grpc import ChannelConnectivity, StatusCode

from mesh_client.retries import Unreachable
from mesh_client.transport import Link, Tls, open_link


class PlainRoad:
    """Calls take turns among the routers that are connected; one that is lost is connected to again.

    Needs the running event loop.
    """

    def __init__(self, routers: Sequence[str], tls: Tls | None) -> None:
        self._links = [open_link(router, tls) for router in routers]
        self._turn = 0
        self._connecting: asyncio.Task[None] | None = None

    async def link(self, seconds: float) -> Link:
        """A router that is connected.

        Raises `Unreachable` once connecting to each of them has failed, at the latest after `seconds`.
        """
        ready = self._next_ready()
        if ready is None:
            # All callers wait for the same task: one that gives up must not end it.
            await asyncio.wait([self._connecting_task()], timeout=max(0.0, seconds))
            ready = self._next_ready()
        if ready is None:
            raise Unreachable(StatusCode.UNAVAILABLE, f"no connection to {self}")
        return ready

    async def close(self) -> None:
        """Close the connections; calls on them are cancelled."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for link in self._links:
            await link.channel.close()

    def __str__(self) -> str:
        return ", ".join(link.target for link in self._links)

    def _next_ready(self) -> Link | None:
        # Each is asked each time: that is what has a lost one connected again.
        ready = [link for link in self._links if link.state() is ChannelConnectivity.READY]
        if not ready:
            return None
        self._turn += 1
        return ready[self._turn % len(ready)]

    def _connecting_task(self) -> asyncio.Task[None]:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="connect to a router")
        return self._connecting

    async def _connect(self) -> None:
        """Until one is connected, or none can be."""
        pause = _FIRST_LOOK
        while True:
            states = {link.state() for link in self._links}
            if ChannelConnectivity.READY in states or states <= _HOPELESS:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_LOOK)


_HOPELESS = {ChannelConnectivity.TRANSIENT_FAILURE, ChannelConnectivity.SHUTDOWN}
_FIRST_LOOK = 0.001
_LONGEST_LOOK = 0.02
