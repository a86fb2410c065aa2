"""What is still to be done to media is done once in a process, whatever becomes of its claim."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, cast

from asyncpg.pgproto.pgproto import UUID
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh_core.ids import new_uuid
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_media.ingest.lane import Lane
from mesh_media.repository.rows import PROCESS, WorkRow
from mesh_media.repository.work_repository import WorkRepository
from tests.support.eventually import eventually


def work(media: UUID | None = None) -> WorkRow:
    return WorkRow(media or new_uuid(), new_uuid(), PROCESS, b"", "", False, 0)


class Claims:
    """Stands for `WorkRepository`: gives these rows, one after the other."""

    def __init__(self, *rows: WorkRow) -> None:
        self.rows = [*rows]

    async def claim(self, _kind: int, _after: UUID, _busy: Collection[UUID]) -> WorkRow | None:
        return self.rows.pop(0) if self.rows else None


async def test_work_that_is_claimed_again_while_it_is_done_is_not_begun_twice() -> None:
    row, other = work(), work()
    claims = Claims(row, row, other)
    begun: list[UUID] = []
    go_on = asyncio.Event()

    async def do(claimed: WorkRow) -> None:
        begun.append(claimed.media)
        await go_on.wait()

    lane = Lane(cast(WorkRepository, claims), PROCESS, do, places=3, of_a_tenant=3)
    running: asyncio.Task[Any] = asyncio.create_task(lane.run(), name="lane")
    await eventually(lambda: other.media in begun)
    go_on.set()
    assert begun == [row.media, other.media]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_work_is_in_the_trace_that_its_media_names() -> None:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=1), exporter=memory)
    row, done = work(), asyncio.Event()

    async def do(_claimed: WorkRow) -> None:
        done.set()

    lane = Lane(cast(WorkRepository, Claims(row)), PROCESS, do, places=1, of_a_tenant=1)
    running: asyncio.Task[Any] = asyncio.create_task(lane.run(), name="lane")
    await done.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    expected = tracing.found(f"media/{row.media}")
    tracing.shutdown()
    [span] = memory.get_finished_spans()
    assert span.name == "mesh.media.work"
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == expected[3:52]
