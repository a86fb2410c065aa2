"""What the media service makes of files, and what that costs.

A module for each group of figures has a function `measure(quick: bool) -> Measured`.
"""

from __future__ import annotations

import asyncio
import os

from bench.measuring.report import Measured, Report
from bench.media import attacks, films, ingest, migration, photos, retention, service
from bench.mesh.operator import NotMeasured

GROUPS = (
    photos.measure,
    films.measure,
    service.measure,
    attacks.measure,
    ingest.measure,
    retention.measure,
    migration.measure,
)


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when a condition never came."""
    try:
        measured = asyncio.run(_measure(quick))
    except NotMeasured as problem:
        raise SystemExit(f"media: not measured: {problem}") from None
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return Report(
        "media", dict(measured.figures), notes=(*measured.notes, f"Load averages at the end: {load}.")
    )


async def _measure(quick: bool) -> Measured:
    whole = Measured()
    for measure in GROUPS:
        whole = whole.with_more(await measure(quick))
    return whole
