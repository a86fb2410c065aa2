"""How long thousands of clients of the control plane wait for a node that joins, and what they are sent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.measuring.processes import cpu_seconds, pss_kb
from bench.measuring.workers import worker
from bench.routing.ads_clients import Arrived, ClientsPlan, Expect, Open, Pushed
from bench.routing.world import RoutingWorld

NODES = 9
JOINS = 3
STREAMS_OF_A_CONNECTION = 100
_PARTS = ("router", "media", "webhook", "simulator")


@dataclass(frozen=True, slots=True)
class Join:
    """One node that joined: seconds until the first and the last client had it, what was pushed, and CPU
    seconds of the router until then."""

    first: float
    last: float
    pushed: Pushed
    router_cpu: float


@dataclass(frozen=True, slots=True)
class Joins:
    """All of them. `stream_kb` is what a stream added to the router's memory."""

    streams: int
    opening_seconds: float
    stream_kb: float
    joins: list[Join]

    def figures(self) -> dict[str, float]:
        """By name: the worst of the joins. The last one pushes the most bytes."""
        return {
            "ads_join_push_seconds": max(join.last for join in self.joins),
            "ads_bytes_per_client": max(join.pushed.bytes for join in self.joins) / self.streams,
            "ads_stream_kb": self.stream_kb,
        }

    def notes(self) -> tuple[str, ...]:
        """Sentences."""
        last = self.joins[-1]
        seconds = ", ".join(f"{join.last:.2f}" for join in self.joins)
        what = ", ".join(f"{number:,} {kind}" for kind, number in last.pushed.responses.items())
        return (
            f"{self.streams:,} streams of the control plane, each with {NODES} nodes and those that join; "
            f"opened in {self.opening_seconds:.1f} s; {self.stream_kb:.1f} kB of the router's memory (PSS) "
            f"each. {JOINS} nodes join, one after the other: the last client has it after {seconds} s, the "
            f"first after {last.first:.2f} s, with {last.router_cpu:.2f} s of the router's CPU.",
            f"Pushed at the last join: {what}; {last.pushed.bytes / self.streams:,.0f} bytes a client. The "
            f"least that the protocol allows is {last.pushed.needed_bytes / self.streams:,.0f}: a response "
            "of clusters must have all that the client needs, as it takes others for gone. The new node's "
            f"own resources are {last.pushed.new_bytes} bytes of that. Streams that ended meanwhile and were "
            f"opened again, which the figures suffer from: {last.pushed.ended}.",
        )


async def measure(world: RoutingWorld, streams: int) -> Joins:
    """In a world of its own: its nodes are keys in etcd that nobody calls."""
    present = [f"node-{number}" for number in range(NODES)]
    coming = [f"joining-{number}" for number in range(JOINS)]
    for place, name in enumerate([*present]):
        await world.register(name, f"127.0.0.1:{place + 1}")
    needed = [*_PARTS, *(f"node:{name}" for name in present)]
    plan = ClientsPlan(
        world.router_address,
        streams,
        max(1, streams // STREAMS_OF_A_CONNECTION),
        [*needed, *(f"node:{name}" for name in coming)],
    )
    router = world.router.pid
    async with worker("bench.routing.ads_clients", plan) as clients:
        before, began = pss_kb(router), time.monotonic()
        await clients.ask(Open(needed), type(None))
        opening = time.monotonic() - began
        memory = pss_kb(router) - before
        joins = []
        for place, name in enumerate(coming):
            await clients.ask(Expect(f"node:{name}"), type(None))
            cpu, registered = cpu_seconds(router), time.monotonic()
            await world.register(name, f"127.0.0.1:{NODES + place + 1}")
            pushed = await clients.ask(Arrived(), Pushed)
            used = cpu_seconds(router) - cpu
            joins.append(Join(pushed.first - registered, pushed.last - registered, pushed, used))
    return Joins(streams, opening, memory / streams, joins)
