"""Very many clients of the control plane in one process. Moments are of CLOCK_MONOTONIC."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import grpc.aio
import msgspec
import uvloop

from bench.measuring.workers import serve
from bench.routing.ads_stream import CLUSTERS, ENDPOINTS, AdsStream, Response

_ABREAST = 200
"""Streams that are opened at the same time."""
_QUIET_SECONDS = 1.0


class ClientsPlan(msgspec.Struct, frozen=True):
    """The router, how many streams on how many connections, and the clusters that each stream needs."""

    router: str
    streams: int
    connections: int
    clusters: list[str]


class Open(msgspec.Struct, frozen=True, tag=True):
    """Open the streams. Answered with null, once every stream has these of its clusters."""

    present: list[str]


class Expect(msgspec.Struct, frozen=True, tag=True):
    """Note what comes from now on, for this cluster is about to be there. Answered with null."""

    cluster: str


class Arrived(msgspec.Struct, frozen=True, tag=True):
    """Answered with `Pushed`, once every stream has the expected cluster, and nothing more comes."""


class Pushed(msgspec.Struct, frozen=True):
    """What came: when the first and the last stream had the cluster with its endpoints, the bytes of all
    responses and the least that they could have been, the size of the new resources alone, how many responses
    there were by type and number of resources, and how often streams have ended until now."""

    first: float
    last: float
    bytes: int
    needed_bytes: int
    new_bytes: int
    responses: dict[str, int]
    ended: int


class Clients:
    """The streams, and what they got together."""

    def __init__(self, plan: ClientsPlan) -> None:
        self._plan = plan
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
        self._channels = [
            grpc.aio.insecure_channel(plan.router, options=options) for _ in range(plan.connections)
        ]
        self._streams: list[AdsStream] = []
        self._running: list[asyncio.Task[None]] = []
        self._expected: frozenset[str] = frozenset()
        self._complete: dict[AdsStream, float] = {}
        self._changed = asyncio.Event()
        self._responses: list[Response] = []
        self._last = 0.0

    async def obey(self, order: Open | Expect | Arrived) -> Pushed | None:
        """One order."""
        match order:
            case Open():
                self._expect(order.present)
                await self._open()
                await self._until_quiet()
            case Expect():
                self._expect([order.cluster])
            case Arrived():
                await self._until_complete(self._plan.streams)
                await self._until_quiet()
                return self._pushed()
        return None

    def _expect(self, clusters: list[str]) -> None:
        self._expected = frozenset(clusters)
        self._complete, self._responses = {}, []

    async def _open(self) -> None:
        for first in range(0, self._plan.streams, _ABREAST):
            last = min(first + _ABREAST, self._plan.streams)
            for number in range(first, last):
                stream = AdsStream(f"bench-{number}", tuple(self._plan.clusters), self._came)
                self._streams.append(stream)
                running = stream.run(self._channels[number % len(self._channels)])
                self._running.append(asyncio.create_task(running, name=f"client {number}"))
                self._running[-1].add_done_callback(self._ended)
            await self._until_complete(last)

    def _came(self, stream: AdsStream, response: Response) -> None:
        self._last = time.monotonic()
        self._responses.append(response)
        if stream not in self._complete and self._expected <= stream.has:
            self._complete[stream] = self._last
            self._changed.set()

    def _ended(self, _stream: asyncio.Task[None]) -> None:
        self._changed.set()

    async def _until_complete(self, streams: int) -> None:
        while len(self._complete) < streams:
            for running in self._running:
                if running.done():
                    running.result()
            self._changed.clear()
            await self._changed.wait()

    async def _until_quiet(self) -> None:
        while (rest := self._last + _QUIET_SECONDS - time.monotonic()) > 0:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(rest)

    def _pushed(self) -> Pushed:
        # What a response of clusters leaves out is gone, so it must have all; one of endpoints only the new.
        clusters = next(response for response in self._responses if response.kind == CLUSTERS)
        endpoints = next(response for response in self._responses if response.kind == ENDPOINTS)
        needed = clusters.size_of(self._plan.clusters) + endpoints.size_of(self._expected)
        kinds = Counter(f"{r.kind.rpartition('.')[2]} x {len(r.sizes)}" for r in self._responses)
        return Pushed(
            min(self._complete.values()),
            max(self._complete.values()),
            sum(response.size for response in self._responses),
            needed * self._plan.streams,
            sum(response.sizes[name] for response in (clusters, endpoints) for name in self._expected),
            dict(kinds),
            sum(stream.ended for stream in self._streams),
        )


if __name__ == "__main__":
    uvloop.run(serve(ClientsPlan, Open | Expect | Arrived, lambda plan: Clients(plan).obey))
