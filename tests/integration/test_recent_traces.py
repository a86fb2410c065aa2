"""The traces that `mesh up` keeps, listed: the latest, the slow ones, those in which something failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh_cli.commands.trace import search
from mesh_cli.traces.collector import Collector
from mesh_cli.traces.listing import lines
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing

START = 1_796_000_000_000_000_000
MINUTE = 60_000_000_000


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """Has an ordinary trace, a slow one, and one of which a part failed, a minute apart."""
    running = Collector()
    await running.start()
    tracing.configure(
        "sessionmesh-router", TelemetrySettings(otlp_endpoint=running.otlp_endpoint, sample_ratio=1)
    )
    for number, (name, took, fails) in enumerate(
        [
            ("ordinary", 5_000_000, False),
            ("sessionmesh.v1.MessageService/SendMessage", 2_500_000_000, False),
            ("failed", 90_000_000, True),
        ]
    ):
        began = START + number * MINUTE
        root = tracing.start_span(name, parent="", start=began)
        part = tracing.start_span("part", parent=root.traceparent, start=began)
        if fails:
            part.fail("no")
        part.end(began + took // 2)
        root.end(began + took)
    await asyncio.to_thread(tracing.shutdown)
    yield running
    await running.stop()


async def names(collector: Collector, *, slow: bool = False, failed: bool = False) -> list[str]:
    return [found.name for found in await search(collector.query_url, slow=slow, failed=failed)]


async def test_the_latest_traces_come_first(collector: Collector) -> None:
    assert await names(collector) == ["failed", "sessionmesh.v1.MessageService/SendMessage", "ordinary"]


async def test_those_with_a_slow_step_are_found(collector: Collector) -> None:
    assert await names(collector, slow=True) == ["sessionmesh.v1.MessageService/SendMessage"]


async def test_those_in_which_something_failed_are_found(collector: Collector) -> None:
    assert await names(collector, failed=True) == ["failed"]
    assert await names(collector, slow=True, failed=True) == []


async def test_a_list_has_a_line_of_80_columns_for_each(collector: Collector) -> None:
    found = await search(collector.query_url, slow=False, failed=False)
    shown = [*lines(found)]
    assert max(map(len, shown)) <= 80
    assert [line[8:46].split() for line in shown[1:]] == [
        ["90.0", "ms", "!failed"],
        ["2.50", "s", "MessageService/SendMessage"],
        ["5.0", "ms", "ordinary"],
    ]
    assert [line.split()[-1] for line in shown[1:]] == [summary.trace_id for summary in found]
