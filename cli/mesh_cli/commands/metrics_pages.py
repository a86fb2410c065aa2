"""The metrics pages of parts, as they are read."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

SECONDS = 2.0
"""How long a page is waited for."""
Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """What one part showed at an instant `time` (monotonic): samples by name, each with its labels."""

    time: float
    samples: Mapping[str, list[tuple[Labels, float]]]

    def find(self, name: str, **labels: str) -> Iterator[tuple[Labels, float]]:
        """The samples that have these labels, and maybe more."""
        for has, value in self.samples.get(name, ()):
            if all(has.get(label) == wanted for label, wanted in labels.items()):
                yield has, value

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of these samples; None where the part shows none."""
        values = [value for _, value in self.find(name, **labels)]
        return sum(values) if values else None


def parse_page(text: str, time: float) -> Page:
    """A page in Prometheus' text format; raises ValueError for another one."""
    samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name].append((sample.labels, sample.value))
    return Page(time, samples)


async def read_pages(addresses: Mapping[str, str]) -> dict[str, Page | None]:
    """The page of each part, by its name; None for one that does not answer. `addresses` are host:port."""
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        pages = await asyncio.gather(*(_read(session, address) for address in addresses.values()))
    return dict(zip(addresses, pages, strict=True))


async def _read(session: aiohttp.ClientSession, address: str) -> Page | None:
    try:
        async with session.get(f"http://{address}/metrics") as answer:
            answer.raise_for_status()
            text = await answer.text()
        return parse_page(text, asyncio.get_running_loop().time())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
