"""Traces in lines of 80 columns: which there were lately, which were slow, which failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mesh_cli.traces.waterfall import rows

SERVICES = tuple(f"sessionmesh-{part}" for part in ("router", "session-node", "media", "webhook"))
"""Jaeger finds traces of one service only."""
SHOWN = 20
SLOW = "2s"
_NAME_WIDTH = 26


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace: its first span's name, and its time in microseconds, `start` since the epoch."""

    trace_id: str
    name: str
    start: int
    duration: int
    spans: int
    failed: bool


def queries(*, slow: bool, failed: bool) -> Iterator[dict[str, str]]:
    """What to ask Jaeger's `/api/traces` for, service by service."""
    wanted = {"limit": str(SHOWN)}
    if slow:
        wanted["minDuration"] = SLOW
    if failed:
        wanted["tags"] = '{"error":"true"}'
    for service in SERVICES:
        yield wanted | {"service": service}


def summaries(traces: Iterable[dict[str, Any]]) -> list[Summary]:
    """Of traces in Jaeger's form, the latest first; one that came twice once."""
    found = {trace["traceID"]: _summary(trace) for trace in traces}
    return sorted(found.values(), key=lambda summary: summary.start, reverse=True)[:SHOWN]


def lines(found: list[Summary]) -> Iterator[str]:
    """A head, and a line for each; "!" is before what failed."""
    yield f"{'began':8} {'took':>9}  {'what':{_NAME_WIDTH}} trace"
    for summary in found:
        began = datetime.fromtimestamp(summary.start / 1e6).astimezone().strftime("%H:%M:%S")
        mark = "!" if summary.failed else " "
        name = summary.name.rpartition(".")[2] if "/" in summary.name else summary.name
        what = f"{mark}{name[:_NAME_WIDTH]:{_NAME_WIDTH}}"
        yield f"{began} {_took(summary.duration):>9} {what} {summary.trace_id}"


def _summary(trace: dict[str, Any]) -> Summary:
    spans = rows(trace)
    first = min(spans, key=lambda row: (row.depth, row.start))
    return Summary(
        trace["traceID"],
        first.name,
        min(span["startTime"] for span in trace["spans"]),
        max(row.start + row.duration for row in spans),
        len(spans),
        any(row.failed for row in spans),
    )


def _took(microseconds: int) -> str:
    return f"{microseconds / 1e6:.2f} s" if microseconds >= 1_000_000 else f"{microseconds / 1000:.1f} ms"
