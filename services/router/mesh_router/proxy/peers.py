"""Connections to those who serve: one channel per address, one callable per method on it."""

from __future__ import annotations

from typing import Any

from mesh_core.channels import ChannelPool
from mesh_router.proxy.routes import Route


class Peers:
    """Hands out the callables that send bytes of a method to an address."""

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels
        self._callables: dict[str, dict[str, Any]] = {}

    def callable(self, address: str, route: Route) -> Any:
        """`grpc.aio`'s multi-callable of the route's kind, from bytes to bytes."""
        methods = self._callables.get(address)
        if methods is None:
            methods = self._callables[address] = {}
        found = methods.get(route.path)
        if found is None:
            channel = self._channels.get(address)
            kinds = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
                (True, True): channel.stream_stream,
            }
            found = methods[route.path] = kinds[route.request_streaming, route.response_streaming](route.path)
        return found

    def addresses(self) -> set[str]:
        """Those that calls were sent to and that were not forgotten since."""
        return set(self._callables)

    async def forget(self, address: str) -> None:
        """Close the connection to an address that is gone."""
        self._callables.pop(address, None)
        await self._channels.discard(address)
