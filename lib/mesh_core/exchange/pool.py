"""The exchanges to all peers, one each."""

from __future__ import annotations

import asyncio
from ssl import SSLContext

import structlog
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_core.channels import ChannelPool, call_metadata, mesh_metadata
from mesh_core.exchange.client import Exchange
from mesh_core.exchange.connection import Connection
from sessionmesh.internal.v1 import exchange_pb2, exchange_pb2_grpc

logger = structlog.get_logger(__name__)

LARGEST_REQUEST = 64 * 1024
"""Bytes: what is larger should travel by itself, so as not to hold up the calls behind it."""
OPENING = 2.0
"""Seconds that opening an exchange may take."""
AGAIN = 30.0
"""Seconds after which a peer that takes no exchange is asked again."""


class ExchangePool:
    """Opens an exchange to a peer when it is first called, and again after it ended."""

    def __init__(self, channels: ChannelPool, mesh_key: str, tls: SSLContext | None) -> None:
        self._channels = channels
        self._mesh_key = mesh_key
        self._tls = tls
        self._open: dict[str, Exchange] = {}
        self._opening: dict[str, asyncio.Task[Exchange | None]] = {}
        self._without: dict[str, float] = {}

    async def exchange(self, address: str) -> Exchange | None:
        """The exchange to the peer at `address`; None when calls to it must travel by themselves."""
        exchange = self._open.get(address)
        if exchange is not None and exchange.ended is None:
            return exchange
        if not self._mesh_key or self._without.get(address, 0.0) > asyncio.get_running_loop().time():
            return None
        opening = self._opening.get(address)
        if opening is None:
            opening = asyncio.create_task(self._connect(address), name=f"exchange with {address}")
            self._opening[address] = opening
        return await asyncio.shield(opening)

    def discard(self, address: str) -> None:
        """Close the exchange to a peer that is gone."""
        self._without.pop(address, None)
        if (exchange := self._open.pop(address, None)) is not None:
            exchange.close()

    def close(self) -> None:
        """Close all of them."""
        for opening in self._opening.values():
            opening.cancel()
        for address in [*self._open]:
            self.discard(address)

    async def _connect(self, address: str) -> Exchange | None:
        """None when it failed: the call that goes by itself then tells why."""
        try:
            async with asyncio.timeout(OPENING):
                return await self._connected(address)
        except (AioRpcError, OSError, TimeoutError) as error:
            gone = isinstance(error, AioRpcError) and error.code() is StatusCode.UNAVAILABLE
            if not gone:
                self._without[address] = asyncio.get_running_loop().time() + AGAIN
                logger.warning("no exchange: calls travel by themselves", peer=address, reason=repr(error))
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None  # grpc.aio shows a channel that was closed under the call like this
        finally:
            self._opening.pop(address, None)

    async def _connected(self, address: str) -> Exchange:
        stub = exchange_pb2_grpc.ExchangeServiceStub(self._channels.get(address))
        metadata = call_metadata(mesh_metadata(self._mesh_key))
        place = await stub.OpenExchange(
            exchange_pb2.OpenExchangeRequest(), metadata=metadata, timeout=OPENING
        )
        host = address.rpartition(":")[0].strip("[]")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, host, place.port, ssl=self._tls)
        exchange = self._open[address] = Exchange(connection, place.token)
        return exchange
