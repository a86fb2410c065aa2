"""Connections to the endpoints: per address channels with a callable per method, and a peer connection."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_core.rpc.channels import ChannelPool
from mesh_core.rpc.limits import relayed_metadata
from mesh_core.rpc.options import CONCURRENT_STREAMS
from mesh_core.rpc.peers import MAX_REQUEST_BYTES, CallFailed, PeerPool, Response
from mesh_core.rpc.peers.metadata import Metadata
from mesh_core.telemetry.rpc_metrics import made
from mesh_router.proxy.routes import Route

STREAMS_ABREAST = CONCURRENT_STREAMS * 4 // 5
"""Streams that are opened on one channel; the rest of what it may have is for single calls."""


class Upstreams:
    """Sends calls, from bytes to bytes, to an address."""

    def __init__(self, channels: ChannelPool, peer_pool: PeerPool, mesh_key: str = "") -> None:
        """`mesh_key` proves to the other parts that a call was counted here."""
        self._channels = channels
        self._relayed = relayed_metadata(mesh_key)
        self._peer_pool = peer_pool
        self._callables: dict[str, dict[tuple[str, int], Any]] = {}
        self._streams: dict[str, list[int]] = {}
        """Open streams to each address by the number of their channel."""

    async def unary(
        self, address: str, route: Route, request: bytes, metadata: Metadata, timeout: float | None
    ) -> Response:
        """One unary call, batched with others where it is small. Raises `CallFailed`."""
        began, code = perf_counter(), StatusCode.OK
        try:
            if route.batched and len(request) <= MAX_REQUEST_BYTES:
                peer = await self._peer_pool.peer(address)
                if peer is not None:
                    return await peer.call(route.path, request, metadata, timeout)
            return await self._alone(address, route, request, metadata, timeout)
        except CallFailed as failed:
            code = failed.code
            raise
        except asyncio.CancelledError:
            code = StatusCode.CANCELLED
            raise
        finally:
            made(route.path).observe(code, perf_counter() - began)

    def relayed(self, metadata: Metadata) -> Metadata:
        """`metadata`, for a call that travels alone, with what says that it entered the mesh here."""
        return (*metadata, *self._relayed)

    def stream(self, address: str, route: Route, *request: bytes, **options: Any) -> Any:
        """A call of `grpc.aio` that may stay open, from bytes to bytes, on a channel that has room for it.

        On a full one gRPC would let it wait without a word.
        """
        streams = self._streams.setdefault(address, [])
        number = next((at for at, open_ in enumerate(streams) if open_ < STREAMS_ABREAST), len(streams))
        if number == len(streams):
            streams.append(0)
        call = self._callable(address, route, number)(*request, **options)
        streams[number] += 1

        def ended(_call: Any) -> None:
            streams[number] -= 1

        call.add_done_callback(ended)
        return call

    def _callable(self, address: str, route: Route, number: int = 0) -> Any:
        """`grpc.aio`'s multi-callable of the route's kind, from bytes to bytes."""
        methods = self._callables.get(address)
        if methods is None:
            methods = self._callables[address] = {}
        found = methods.get((route.path, number))
        if found is None:
            channel = self._channels.get(address, number)
            kinds = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
                (True, True): channel.stream_stream,
            }
            kind = kinds[route.request_streaming, route.response_streaming]
            found = methods[route.path, number] = kind(route.path)
        return found

    def addresses(self) -> set[str]:
        """Addresses that calls were sent to and that were not evicted since."""
        return self._channels.addresses()

    async def evict(self, address: str) -> None:
        """Close the connections to an address; unary calls on them fail."""
        self._callables.pop(address, None)
        self._streams.pop(address, None)
        self._peer_pool.discard(address)
        await self._channels.discard(address)

    async def _alone(
        self, address: str, route: Route, request: bytes, metadata: Metadata, timeout: float | None
    ) -> Response:
        call = self._callable(address, route)(request, timeout=timeout, metadata=self.relayed(metadata))
        try:
            body = await call
            return Response(body, await call.initial_metadata(), await call.trailing_metadata())
        except AioRpcError as error:
            raise CallFailed.of(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # This is how grpc.aio reports that the channel was closed during the call.
            raise CallFailed(StatusCode.UNAVAILABLE, "the connection was closed") from None
