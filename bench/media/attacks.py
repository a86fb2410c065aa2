"""What bombs cost the media service's memory, and what others notice of them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import perf_counter

import grpc.aio
import psutil

from bench.measuring.report import Measured
from bench.media import corpus
from bench.media.bombs import bombs
from bench.media.world import MediaService, media_service

UPLOADS, QUICK_UPLOADS = 100, 4
ROUNDS, QUICK_ROUNDS = 4, 2
"""Stretches of the other tenant's uploads with each bomb, and of as many without."""
WIDTH = 2000
"""Of the photographs that it uploads."""
BOMBS_PER_SECOND = 5
_SAMPLE_SECONDS = 0.005


async def measure(quick: bool) -> Measured:
    """`bomb_added_mb`: memory (PSS) of the service and its workers at the most while one bomb is processed,
    over before; `bomb_p99_ratio`: the 99th percentile of another tenant's uploads while the bomb is sent five
    times a second, over without it. The worst of all bombs. How many calls a tenant may make is for the
    limits of calls.
    """
    picture = await asyncio.to_thread(corpus.photograph, corpus.PHOTOGRAPHS[4])
    photograph = corpus.as_phones_make_it(picture.thumbnail_image(WIDTH))
    uploads, rounds = (QUICK_UPLOADS, QUICK_ROUNDS) if quick else (UPLOADS, ROUNDS)
    added, ratios = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        made = await asyncio.to_thread(bombs, Path(folder))
    async with media_service() as service:
        other = _Tenant(service, await service.tenant(), photograph)
        attacker = await service.tenant()
        await other.seconds(4)
        for name, (mime_type, data) in made.items():
            added[name] = await _added_mb(service, attacker, data, mime_type)
            quiet: list[float] = []
            attacked: list[float] = []
            for _ in range(rounds):  # in turns, because a machine's speed drifts
                quiet += await other.seconds(uploads // rounds)
                async with _sent_over_and_over(service, attacker, data, mime_type):
                    attacked += await other.seconds(uploads // rounds)
            ratios[name] = _p99(attacked) / _p99(quiet)
    notes = ", ".join(f"{name} {added[name]:.0f} MB and {ratios[name]:.2f}" for name in added)
    return Measured(
        {"bomb_added_mb": max(added.values()), "bomb_p99_ratio": max(ratios.values())},
        (f"Bombs, of {uploads} uploads each: {notes}.",),
    )


@dataclass(slots=True)
class _Tenant:
    service: MediaService
    tenant: str
    photograph: bytes
    numbers: count[int] = field(default_factory=count)

    async def seconds(self, uploads: int) -> list[float]:
        """How long each of so many uploads takes, one after the other."""
        taken = []
        for _ in range(uploads):
            began = perf_counter()
            await self.service.upload(self.tenant, self.photograph + next(self.numbers).to_bytes(8))
            taken.append(perf_counter() - began)
        return taken


def _p99(taken: list[float]) -> float:
    return sorted(taken)[int(len(taken) * 0.99)]


def _another(bomb: bytes, number: int) -> bytes:
    """The same bomb in other bytes: those that the tenant has already are not looked into again."""
    if bomb.startswith(b"GIF"):  # which must end with its trailer
        return bomb[:-1] + b"\x21\xfe\x08" + number.to_bytes(8) + b"\0\x3b"
    return bomb + number.to_bytes(8)


async def _send(service: MediaService, tenant: str, data: bytes, mime_type: str) -> None:
    with suppress(grpc.aio.AioRpcError):  # most are refused
        await service.upload(tenant, data, mime_type)


@asynccontextmanager
async def _sent_over_and_over(
    service: MediaService, tenant: str, data: bytes, mime_type: str
) -> AsyncIterator[None]:
    async def send() -> None:
        for number in count():
            began = perf_counter()
            await _send(service, tenant, _another(data, number), mime_type)
            await asyncio.sleep(max(0.0, began + 1 / BOMBS_PER_SECOND - perf_counter()))

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.wait([sending])


async def _added_mb(service: MediaService, tenant: str, data: bytes, mime_type: str) -> float:
    before = await asyncio.to_thread(_pss_mb, service.process.pid)
    sending = asyncio.create_task(_send(service, tenant, data, mime_type))
    most = before
    while not sending.done():
        most = max(most, await asyncio.to_thread(_pss_mb, service.process.pid))
        await asyncio.sleep(_SAMPLE_SECONDS)
    return most - before


def _pss_mb(pid: int) -> float:
    total = 0.0
    for one in (process := psutil.Process(pid), *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += one.memory_full_info().pss / 1e6
    return total
