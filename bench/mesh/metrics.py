"""What the session-nodes say of their journals, read from their metrics pages."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from bench.mesh.running import RunningMesh


@dataclass(frozen=True, slots=True)
class JournalCounts:
    """Batches that were stored, and what was in them."""

    batches: float
    units: float

    def __sub__(self, before: JournalCounts) -> JournalCounts:
        return JournalCounts(self.batches - before.batches, self.units - before.units)


async def journal_counts(mesh: RunningMesh) -> JournalCounts:
    """Of all nodes together, since they started."""
    pages = [part.metrics for name, part in mesh.file.parts.items() if name.startswith("node-")]
    counts = await asyncio.gather(*(asyncio.to_thread(_read, page) for page in pages))
    return JournalCounts(sum(c.batches for c in counts), sum(c.units for c in counts))


def _read(page: str) -> JournalCounts:
    with urllib.request.urlopen(f"http://{page}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "mesh_journal_batch_units"
        for sample in family.samples
    }
    return JournalCounts(samples["mesh_journal_batch_units_count"], samples["mesh_journal_batch_units_sum"])
