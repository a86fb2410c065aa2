"""`mesh demo` as a process, and what must be true of the figures that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.mesh_process import run_mesh

FIGURES = {
    "sent",
    "delivered",
    "lost",
    "duplicates",
    "overlaps",
    "unreadable",
    "webhooks_verified",
    "failover_seconds",
    "trace_id",
    "trace_services",
}


def _check(figures: dict[str, Any]) -> None:
    """The figures are those of a demo whose every sentence is true."""
    assert set(figures) == FIGURES
    assert figures["sent"] == figures["delivered"] > 0
    assert (figures["lost"], figures["duplicates"], figures["overlaps"]) == (0, 0, 0)
    assert figures["unreadable"] == 0
    assert figures["webhooks_verified"] > figures["delivered"]
    assert figures["failover_seconds"] >= 0
    assert {f"sessionmesh-{part}" for part in ("router", "session-node", "media", "webhook")} <= set(
        figures["trace_services"]
    )


def shows_the_truth(state: Path, place: Path, *arguments: str) -> None:
    """A demo with these arguments ends well. `state` is of the mesh, if one runs; `place` is for figures."""
    command = ("--state", str(state), "demo", "--json", str(place), *arguments)
    ended = run_mesh(*command, seconds=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    _check(json.loads(place.read_text()))
