"""The simulated network alone: what it costs per message and connection, which other benchmarks include.

Every message lives its whole life: sent, recorded, acknowledged, and its DELIVERED receipt received. The load
is this process; the network is another one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.measuring.processes import cpu_seconds, pss_kb
from bench.measuring.report import Report
from bench.mesh.simulated_network import simulated_network
from mesh_core.framing import FrameDecoder, encode
from sessionmesh.simnet.v1 import wire_pb2 as wire

_RECIPIENT = "phone:+4915112345678"
_ABREAST = 200
"""Connections opened at the same time."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure; `rate` is the messages a second of the paced part."""

    connections: int
    active: int
    in_flight: int
    seconds: float
    rate: int


# Most of what is in flight waits 50 ms for its receipt: 10,000 messages a second are 500 in flight at least.
_QUICK = Size(connections=1000, active=500, in_flight=2000, seconds=5, rate=5000)
_FULL = Size(connections=7000, active=1000, in_flight=2000, seconds=20, rate=5000)


def run(quick: bool) -> Report:
    """Measure; `messages_per_second` and `cpu_us_per_message` are of the network saturated by one load
    process, the `_paced` figures are at 5,000 messages a second."""
    size = _QUICK if quick else _FULL
    with simulated_network() as network:
        return uvloop.run(_measure(network.pid, network.address, size))


class _Client(asyncio.Protocol):
    """One account: pairs, logs in, sends, and counts what comes back."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self._counter = 0
        self._sent: dict[str, float] = {}
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write(wire.Frame(pair_start=wire.PairStart(method=wire.PAIR_METHOD_QR)))

    def data_received(self, data: bytes) -> None:
        for body in self._decoder.feed(data):
            frame = wire.Frame.FromString(body)
            kind = frame.WhichOneof("kind")
            if kind == "receipt":
                self._load.delivered(self, time.perf_counter() - self._sent.pop(frame.receipt.id))
            elif kind == "paired":
                paired = frame.paired
                self._write(wire.Frame(login=wire.Login(user_id=paired.user_id, secret=paired.secret)))
            elif kind == "login_ok":
                self.up.set_result(None)
            elif kind not in ("ack", "pair_code", "restrictions"):
                raise RuntimeError(f"unexpected {frame}")

    def send(self) -> None:
        """One message more."""
        message_id = f"{self._counter:020}"
        send = wire.Send(id=message_id, counter=self._counter, to=_RECIPIENT, content=_CONTENT)
        self._counter += 1
        self._sent[message_id] = time.perf_counter()
        self._write(wire.Frame(send=send))

    def _write(self, frame: wire.Frame) -> None:
        if self._transport is not None:
            self._transport.write(encode(frame.SerializeToString()))


_CONTENT = wire.Content(
    text="a message of ordinary length, as people write them to each other"
).SerializeToString()


class _Load:
    """Keeps so many messages in flight, or sends so many a second."""

    def __init__(self) -> None:
        self.clients: list[_Client] = []
        self.count = 0
        self.latencies: list[float] = []
        self._closed_loop = False
        self._turn = 0
        self._active = 1

    async def connect(self, address: str, connections: int) -> None:
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        for first in range(0, connections, _ABREAST):
            more = range(first, min(first + _ABREAST, connections))
            made = await asyncio.gather(
                *(loop.create_connection(lambda: _Client(self), host, int(port)) for _ in more)
            )
            self.clients += [client for _, client in made]
            await asyncio.gather(*(client.up for _, client in made))

    async def saturate(self, size: Size) -> None:
        """Every receipt makes room for another message."""
        self._active, self._closed_loop = size.active, True
        for _ in range(size.in_flight):
            self._send_next()
        await asyncio.sleep(size.seconds)
        self._closed_loop = False

    async def pace(self, size: Size) -> None:
        """Messages at an even rate."""
        began, sent = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < size.seconds:
            while sent < elapsed * size.rate:
                self._send_next()
                sent += 1
            await asyncio.sleep(0.001)

    def delivered(self, client: _Client, seconds: float) -> None:
        self.count += 1
        self.latencies.append(seconds)
        if self._closed_loop:
            self._send_next()

    def _send_next(self) -> None:
        self._turn = (self._turn + 1) % self._active
        self.clients[self._turn].send()


async def _measure(pid: int, address: str, size: Size) -> Report:
    load = _Load()
    empty = pss_kb(pid)
    began = time.perf_counter()
    await load.connect(address, size.connections)
    connecting = time.perf_counter() - began
    connected = pss_kb(pid)
    rate, cost, busy = await _phase(pid, load, load.saturate(size))
    await _settled(load)
    load.latencies.clear()
    paced_rate, paced_cost, paced_busy = await _phase(pid, load, load.pace(size))
    p50, p99 = _quantiles(load.latencies)
    return Report(
        "network",
        {
            "messages_per_second": rate,
            "cpu_us_per_message": cost,
            "core_share_saturated": busy,
            "messages_per_second_paced": paced_rate,
            "cpu_us_per_message_paced": paced_cost,
            "core_share_paced": paced_busy,
            "receipt_p50_ms_paced": p50 * 1000,
            "receipt_p99_ms_paced": p99 * 1000,
            "connections": len(load.clients),
            "connections_per_second": len(load.clients) / connecting,
            "kb_per_connection": (connected - empty) / len(load.clients),
        },
        {"network": (cpu_seconds(pid), pss_kb(pid)), "load": (cpu_seconds(os.getpid()), pss_kb(os.getpid()))},
        ("A receipt is due 50 ms after its message; the latencies include that.",),
    )


async def _phase(pid: int, load: _Load, work: Awaitable[None]) -> tuple[float, float, float]:
    """Messages a second, CPU microseconds a message, and the share of a core the network used."""
    count, cpu, began = load.count, cpu_seconds(pid), time.perf_counter()
    await work
    seconds, used, done = time.perf_counter() - began, cpu_seconds(pid) - cpu, load.count - count
    return done / seconds, used / done * 1e6, used / seconds


async def _settled(load: _Load) -> None:
    """Until nothing is in flight."""
    count = -1
    while count != load.count:
        count = load.count
        await asyncio.sleep(0.2)


def _quantiles(latencies: list[float]) -> tuple[float, float]:
    ordered = sorted(latencies)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
