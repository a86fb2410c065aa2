"""The ADS streams: take requests, send responses, and push what changed to the clients that have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
from google.protobuf.message import DecodeError
from grpc.aio import BaseError, ServicerContext

from mesh_core.errors import InvalidArgument, ResourceExhausted
from mesh_core.metrics import gauge
from mesh_core.rpc.server.reading_out import ReadOuts
from mesh_core.tasks import Supervisor
from mesh_router.xds.client import Client
from mesh_router.xds.refusals import RefusalLog
from mesh_router.xds.snapshot import Response
from mesh_router.xds.state import State
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest

logger = structlog.get_logger(__name__)

Context = ServicerContext[Any, Any]
MAX_REQUEST_BYTES = 1024 * 1024
READ_OUTS = 1_000
"""Refused streams that are read on at once, so that their clients learn the reason. As long they have a place
among the streams without a key: they cost no more than those that are served.
"""
READ_OUT_SECONDS = 5.0
QUIET_SECONDS = 0.25
"""How long, and how long nothing may come meanwhile: a client that has asked for much is still writing."""
PUSHES_PER_TURN = 32
"""Pushes that are begun before the event loop serves other calls."""
STREAMS = gauge(
    "mesh_xds_streams",
    "Streams of clients connected to the xDS control plane; two for each client.",
    answers="How many clients use xDS?",
)
STREAMS.set(0)


class Streams:
    """Serves StreamAggregatedResources from `state`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._streams: dict[_Stream, None] = {}
        self._refusals = RefusalLog()
        self._read_out = ReadOuts(READ_OUTS, READ_OUT_SECONDS, QUIET_SECONDS).read

    async def serve(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """The handler of one client's stream, from bytes to bytes."""
        stream = _Stream(self._state, context)
        self._streams[stream] = None
        STREAMS.inc()
        try:
            async for raw in requests:
                refusal = stream.client.take(_parse(raw), self._state.snapshot)
                if refusal is not None:
                    self._refusals.log(stream.client.node_id, refusal)
                await stream.flush()
        except ResourceExhausted:
            await self._read_out(requests)
            raise
        finally:
            del self._streams[stream]
            STREAMS.dec()

    async def push(self, supervisor: Supervisor) -> None:
        """Begin to send each client what changed for it. A slow client delays no other."""
        snapshot = self._state.snapshot
        assert snapshot is not None  # noqa: S101 - there is something new
        begun = 0
        for stream in list(self._streams):
            if stream.client.is_due(snapshot):
                supervisor.start("xds-push", stream.push())
                begun += 1
                if begun % PUSHES_PER_TURN == 0:
                    await asyncio.sleep(0)

    def clients(self) -> Iterator[Client]:
        """The clients that have sent their node, the longest connected first."""
        return (stream.client for stream in list(self._streams) if stream.client.node is not None)


class _Stream:
    """The stream of one client. While nothing changes its only task is its handler, which awaits requests."""

    __slots__ = ("_context", "_flushing", "_state", "client")

    def __init__(self, state: State, context: Context) -> None:
        self._state = state
        self._context = context
        self._flushing = False
        self.client = Client()

    async def flush(self) -> None:
        """Send what is due, and what becomes due during that."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while (response := self._due()) is not None:
                await self._context.write(response.payload)
        finally:
            self._flushing = False

    async def push(self) -> None:
        """`flush` outside the handler, which notices itself when the client disconnects."""
        try:
            await self.flush()
        except BaseError as error:
            logger.debug("xDS client disconnected", node=self.client.node_id, error=repr(error))

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
