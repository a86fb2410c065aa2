"""The proxies that accounts connect through: checked when they are set, and before each connection."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from mesh_core.egress import AddressForbidden, CheckedResolver, check_proxy, proxy_address
from mesh_session_node.drivers.interface.device import Proxy
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End


class Proxies:
    """Looks proxies up. Private addresses are refused unless `allow_private`."""

    def __init__(self, *, allow_private: bool) -> None:
        self._resolver = CheckedResolver(allow_private=allow_private)

    async def check(self, field: str, url: str) -> None:
        """Raises `InvalidField` or `FailedPrecondition` ADDRESS_FORBIDDEN for what is no proxy to be set."""
        await check_proxy(field, url, self._resolver)

    async def found(self, url: str) -> Proxy | None:
        """The proxy to connect through now; None for no URL. Raises `ConnectionEnded` where it is nowhere, or
        where it must not be.
        """
        if not url:
            return None
        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                host, port = await proxy_address(urlsplit(url), self._resolver)
        except AddressForbidden as error:
            raise ConnectionEnded(End.LOST, f"the account's proxy: {error}") from None
        except (OSError, TimeoutError):
            raise ConnectionEnded(End.LOST, "the name of the account's proxy has no address") from None
        return Proxy(url, host, port)

    async def close(self) -> None:
        """Break off what is being looked up."""
        await self._resolver.close()


_LOOK_UP_SECONDS = 5.0
