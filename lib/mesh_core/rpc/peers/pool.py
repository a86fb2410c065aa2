"""One connection to each peer."""

from __future__ import annotations

import asyncio
from ssl import SSLContext

import structlog
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from mesh_core.rpc.peers.client import PeerConnection
from mesh_core.rpc.peers.connection import FrameConnection
from sessionmesh.internal.v1 import peer_pb2, peer_pb2_grpc

logger = structlog.get_logger(__name__)

MAX_REQUEST_BYTES = 64 * 1024
"""The largest request, in bytes, that should be batched: a larger one would delay the calls behind it."""
OPEN_SECONDS = 2.0
"""Seconds that opening a connection may take."""
RETRY_SECONDS = 30.0
"""Seconds after which a peer that took no connection is asked again."""


class PeerPool:
    """Connects to a peer when it is first called, and again after the connection ended."""

    def __init__(self, channels: ChannelPool, mesh_key: str, tls: SSLContext | None) -> None:
        self._channels = channels
        self._mesh_key = mesh_key
        self._tls = tls
        self._open: dict[str, PeerConnection] = {}
        self._opening: dict[str, asyncio.Task[PeerConnection | None]] = {}
        self._without: dict[str, float] = {}

    async def peer(self, address: str) -> PeerConnection | None:
        """The connection to the peer at `address`; None when calls to it must go over gRPC, one by one."""
        peer = self._open.get(address)
        if peer is not None and peer.ended is None:
            return peer
        if not self._mesh_key or self._without.get(address, 0.0) > asyncio.get_running_loop().time():
            return None
        opening = self._opening.get(address)
        if opening is None:
            opening = asyncio.create_task(self._connect(address), name=f"connect to peer {address}")
            self._opening[address] = opening
        return await asyncio.shield(opening)

    def discard(self, address: str) -> None:
        """Close the connection to a peer that is gone."""
        self._without.pop(address, None)
        if (peer := self._open.pop(address, None)) is not None:
            peer.close()

    def close(self) -> None:
        """Close all of them."""
        for opening in self._opening.values():
            opening.cancel()
        for address in [*self._open]:
            self.discard(address)

    async def _connect(self, address: str) -> PeerConnection | None:
        """None when it failed: the call then goes over gRPC, which tells why."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._connected(address)
        except (AioRpcError, OSError, TimeoutError) as error:
            gone = isinstance(error, AioRpcError) and error.code() is StatusCode.UNAVAILABLE
            if not gone:
                self._without[address] = asyncio.get_running_loop().time() + RETRY_SECONDS
                logger.warning("no peer connection: calls go over gRPC", peer=address, reason=repr(error))
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None  # grpc.aio shows a channel that was closed under the call like this
        finally:
            self._opening.pop(address, None)

    async def _connected(self, address: str) -> PeerConnection:
        stub = peer_pb2_grpc.PeerServiceStub(self._channels.get(address))
        metadata = call_metadata(mesh_metadata(self._mesh_key))
        place = await stub.OpenConnection(
            peer_pb2.OpenConnectionRequest(), metadata=metadata, timeout=OPEN_SECONDS
        )
        host = address.rpartition(":")[0].strip("[]")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(FrameConnection, host, place.port, ssl=self._tls)
        peer = self._open[address] = PeerConnection(connection, place.token)
        return peer
