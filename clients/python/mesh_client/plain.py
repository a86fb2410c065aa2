"""The plain transport: a connection to each router."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from grpc import ChannelConnectivity, StatusCode

from mesh_client.channels import MeshChannel, Tls, open_channel
from mesh_client.retries import Unreachable


class PlainTransport:
    """Calls are spread over the connected routers in turn; a lost connection is made again.

    Needs a running event loop.
    """

    def __init__(self, routers: Sequence[str], tls: Tls | None) -> None:
        self._channels = [open_channel(router, tls) for router in routers]
        self._turn = 0
        self._connecting: asyncio.Task[None] | None = None

    async def channel(self, seconds: float) -> MeshChannel:
        """The channel to a connected router.

        Raises `Unreachable` once connecting to each of them has failed, at the latest after `seconds`.
        """
        ready = self._next_ready()
        if ready is None:
            # All callers wait for the same task, which must go on when one of them gives up.
            await asyncio.wait([self._connecting_task()], timeout=max(0.0, seconds))
            ready = self._next_ready()
        if ready is None:
            raise Unreachable(StatusCode.UNAVAILABLE, f"no connection to {self}")
        return ready

    async def close(self) -> None:
        """Closes the connections; calls on them are cancelled."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for channel in self._channels:
            await channel.channel.close()

    def __str__(self) -> str:
        return ", ".join(channel.target for channel in self._channels)

    def _next_ready(self) -> MeshChannel | None:
        # Asking for the state makes a lost connection connect again, so all are asked each time.
        ready = [channel for channel in self._channels if channel.state() is ChannelConnectivity.READY]
        if not ready:
            return None
        self._turn += 1
        return ready[self._turn % len(ready)]

    def _connecting_task(self) -> asyncio.Task[None]:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="connect to a router")
        return self._connecting

    async def _connect(self) -> None:
        """Returns when one is connected, or connecting to each has failed."""
        pause = _FIRST_POLL_SECONDS
        while True:
            states = {channel.state() for channel in self._channels}
            if ChannelConnectivity.READY in states or states <= _FAILED_STATES:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_POLL_SECONDS)


_FAILED_STATES = {ChannelConnectivity.TRANSIENT_FAILURE, ChannelConnectivity.SHUTDOWN}
_FIRST_POLL_SECONDS = 0.001
_MAX_POLL_SECONDS = 0.02
