"""What parts of the mesh say of themselves, read from their metrics pages."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

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
    counts = await asyncio.gather(*(asyncio.to_thread(_journal, page) for page in pages))
    return JournalCounts(sum(c.batches for c in counts), sum(c.units for c in counts))


async def sessions_quarantined(mesh: RunningMesh) -> float:
    """How often a session of any node came into quarantine, since they started."""
    return await _counted(mesh, "mesh_sessions_quarantined")


async def sidecar_writes(mesh: RunningMesh) -> float:
    """How often sidecars of any node waited for rows of an account to be stored, since they started."""
    return await _counted(mesh, "mesh_whatsapp_web_writes")


async def _counted(mesh: RunningMesh, name: str) -> float:
    pages = [part.metrics for name, part in mesh.file.parts.items() if name.startswith("node-")]
    found = await asyncio.gather(*(asyncio.to_thread(_samples, page, name) for page in pages))
    return sum(one.value for samples in found for one in samples if one.name.endswith("_total"))


async def calls_served(page: str, service: str, method: str) -> int:
    """How many calls of a method have ended in the process whose page is at host:port `page`."""
    samples = await asyncio.to_thread(_samples, page, "rpc_server_call_duration_seconds")
    return int(
        sum(
            sample.value
            for sample in samples
            if sample.name.endswith("_count") and sample.labels["rpc_method"] == f"{service}/{method}"
        )
    )


def _journal(page: str) -> JournalCounts:
    samples = {sample.name: sample.value for sample in _samples(page, "mesh_journal_batch_units")}
    return JournalCounts(samples["mesh_journal_batch_units_count"], samples["mesh_journal_batch_units_sum"])


def _samples(page: str, name: str) -> list[Sample]:
    with urllib.request.urlopen(f"http://{page}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [
        sample
        for family in text_string_to_metric_families(text)
        if family.name == name
        for sample in family.samples
    ]
