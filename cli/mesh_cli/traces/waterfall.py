"""One trace as a waterfall for the terminal, from Jaeger's JSON."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

BAR_WIDTH = 40
OURS = "sessionmesh-"
COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "red", "bright_cyan", "bright_green")


@dataclass(frozen=True, slots=True)
class Row:
    """One span; times in microseconds from the trace's start."""

    service: str
    name: str
    depth: int
    start: int
    duration: int
    failed: bool


def rows(trace: dict[str, Any]) -> list[Row]:
    """The spans of a trace, parents before their children, siblings by start time."""
    names = {key: process["serviceName"] for key, process in trace["processes"].items()}
    spans = {span["spanID"]: span for span in trace["spans"]}
    children: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for span in spans.values():
        children[_parent(span, spans)].append(span)
    origin = min(span["startTime"] for span in spans.values())
    found: list[Row] = []
    waiting = [(span, 0) for span in _latest_first(children[""])]
    while waiting:
        span, depth = waiting.pop()
        failed = any(tag["key"] == "error" and tag["value"] is True for tag in span["tags"])
        found.append(
            Row(
                names[span["processID"]],
                span["operationName"],
                depth,
                span["startTime"] - origin,
                span["duration"],
                failed,
            )
        )
        waiting += [(child, depth + 1) for child in _latest_first(children[span["spanID"]])]
    return found


def services(trace: dict[str, Any]) -> list[str]:
    """The services that took part, in the order in which they first did."""
    return list(dict.fromkeys(row.service for row in sorted(rows(trace), key=lambda row: row.start)))


def table(trace: dict[str, Any]) -> Table:
    """The waterfall."""
    found = rows(trace)
    end = max(row.start + row.duration for row in found) or 1
    colours = dict(zip(dict.fromkeys(row.service for row in found), COLOURS * 4, strict=False))
    picture = Table(box=None, pad_edge=False, header_style="bold")
    picture.add_column("service", no_wrap=True)
    picture.add_column("span", no_wrap=True)
    picture.add_column("start", justify="right", no_wrap=True)
    picture.add_column("took", justify="right", no_wrap=True)
    picture.add_column("", no_wrap=True)
    for row in found:
        colour = colours[row.service]
        left = min(row.start * BAR_WIDTH // end, BAR_WIDTH - 1)
        length = max(1, min(BAR_WIDTH - left, round(row.duration * BAR_WIDTH / end)))
        picture.add_row(
            Text(row.service.removeprefix(OURS), colour),
            Text("  " * row.depth + row.name, "bold red" if row.failed else ""),
            _milliseconds(row.start),
            _milliseconds(row.duration),
            Text(" " * left + "━" * length, colour),
        )
    return picture


def _parent(span: dict[str, Any], spans: dict[str, dict[str, Any]]) -> str:
    """The id of the span's parent within the trace; "" for a root, and where the parent was not recorded."""
    for reference in span["references"]:
        if reference["refType"] == "CHILD_OF" and reference["spanID"] in spans:
            return str(reference["spanID"])
    return ""


def _latest_first(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(spans, key=lambda span: span["startTime"], reverse=True)


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"
