"""The exchanges to all peers, one each."""

from __future__ import annotations

import structlog

from mesh_core.channels import ChannelPool
from mesh_core.exchange.client import Exchange
from mesh_core.exchange.entries import Metadata
from mesh_core.exchange.outcome import CallFailed, Response

logger = structlog.get_logger(__name__)

LARGEST_REQUEST = 64 * 1024
"""Bytes: what is larger should travel by itself, so as not to hold up the calls behind it."""


class ExchangePool:
    """Opens an exchange to a peer when it is first called, and again after it ended."""

    def __init__(self, channels: ChannelPool, mesh_key: str) -> None:
        self._channels = channels
        self._mesh_key = mesh_key
        self._exchanges: dict[str, Exchange] = {}
        self._without: set[str] = set()

    def reaches(self, address: str) -> bool:
        """False for a peer that refused: one of an older release, or with another mesh key."""
        return address not in self._without

    async def call(
        self, address: str, path: str, request: bytes, metadata: Metadata, timeout: float | None
    ) -> Response:
        """Call the method at `path` of the peer at `address`. Raises `CallFailed`."""
        exchange = self._exchanges.get(address)
        if exchange is None or exchange.ended is not None:
            exchange = self._exchanges[address] = Exchange(self._channels.get(address), self._mesh_key)
        try:
            return await exchange.call(path, request, metadata, timeout)
        except CallFailed as failed:
            if exchange.refused and self.reaches(address):
                logger.warning(
                    "exchange refused: calls travel by themselves", peer=address, reason=str(failed)
                )
                self._without.add(address)
            raise

    def discard(self, address: str) -> None:
        """Close the exchange to a peer that is gone."""
        self._without.discard(address)
        exchange = self._exchanges.pop(address, None)
        if exchange is not None:
            exchange.close()

    def close(self) -> None:
        """Close all of them."""
        for address in [*self._exchanges]:
            self.discard(address)
