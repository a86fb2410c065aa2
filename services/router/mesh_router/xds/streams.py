"""The ADS streams: requests in, responses out, and pushes to those whom a change concerns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
from google.protobuf.message import DecodeError
from grpc.aio import BaseError, ServicerContext

from mesh_core.errors import InvalidArgument, ResourceExhausted
from mesh_core.tasks import Supervisor
from mesh_router.xds.client import Client
from mesh_router.xds.metrics import STREAMS
from mesh_router.xds.refusals import RefusalLog
from mesh_router.xds.snapshot import Response
from mesh_router.xds.state import State
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest

logger = structlog.get_logger(__name__)

Context = ServicerContext[Any, Any]
MAX_REQUEST_BYTES = 1024 * 1024
AT_ONCE = 32
"""Streams pushed to before other calls get their turn."""


class Streams:
    """Serves StreamAggregatedResources from `state`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._streams: dict[_Stream, None] = {}
        self._refusals = RefusalLog()

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """One client's stream."""
        stream = _Stream(self._state, context)
        self._streams[stream] = None
        STREAMS.inc()
        try:
            async for raw in requests:
                refusal = stream.client.take(_parse(raw), self._state.snapshot)
                if refusal is not None:
                    self._refusals.log(stream.client.node_id, refusal)
                await stream.flush()
        finally:
            del self._streams[stream]
            STREAMS.dec()

    async def push(self, supervisor: Supervisor) -> None:
        """Begin to send each client what concerns it of the newest snapshot. Slow ones hold up nobody."""
        snapshot = self._state.snapshot
        assert snapshot is not None  # noqa: S101 - there is something new
        begun = 0
        for stream in list(self._streams):
            if stream.client.is_due(snapshot):
                supervisor.start("xds-push", stream.push())
                begun += 1
                if begun % AT_ONCE == 0:
                    await asyncio.sleep(0)

    def clients(self) -> Iterator[Client]:
        """Those that have introduced themselves, the longest connected first."""
        return (stream.client for stream in list(self._streams) if stream.client.node is not None)


class _Stream:
    """The way to one client. At rest it holds no task besides its handler's, which waits for requests."""

    __slots__ = ("_context", "_flushing", "_state", "client")

    def __init__(self, state: State, context: Context) -> None:
        self._state = state
        self._context = context
        self._flushing = False
        self.client = Client()

    async def flush(self) -> None:
        """Send what is due, also what becomes due while a slow client takes its time."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while (response := self._due()) is not None:
                await self._context.write(response.payload)
        finally:
            self._flushing = False

    async def push(self) -> None:
        """`flush` for a change; that the client has left is its handler's to know."""
        try:
            await self.flush()
        except BaseError as error:
            logger.debug("client left", node=self.client.node_id, error=repr(error))

    def _due(self) -> Response | None:
        snapshot = self._state.snapshot
        return None if snapshot is None else self.client.due(snapshot)


def _parse(raw: bytes) -> DiscoveryRequest:
    if len(raw) > MAX_REQUEST_BYTES:
        raise ResourceExhausted(f"a request has at most {MAX_REQUEST_BYTES:,} bytes", "MESSAGE_TOO_LARGE")
    try:
        return DiscoveryRequest.FromString(raw)
    except DecodeError:
        raise InvalidArgument("the request is not a DiscoveryRequest", "INVALID_FIELD") from None
