"""`mesh demo` on a running mesh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh_process import MeshProcess, run_mesh
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import is_built

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


def check(figures: dict[str, Any]) -> None:
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


def test_everything_that_the_demo_shows_is_true(mesh: MeshProcess, tmp_path: Path) -> None:
    place = tmp_path / "figures.json"
    ended = run_mesh("--state", str(mesh.state), "demo", "--json", str(place), seconds=180)
    assert ended.returncode == 0, ended.stdout + ended.stderr + mesh.report()
    check(json.loads(place.read_text()))


def test_the_same_is_true_of_linked_devices(linked_mesh: MeshProcess, tmp_path: Path) -> None:
    demo_of_linked_devices(linked_mesh.state, tmp_path / "figures.json")


@pytest.mark.timed
@pytest.mark.long
def test_where_no_mesh_runs_the_demo_starts_one(tmp_path: Path) -> None:
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    demo_of_linked_devices(tmp_path / "state", tmp_path / "figures.json")


def demo_of_linked_devices(state: Path, place: Path) -> None:
    ended = run_mesh(
        *("--state", str(state), "demo", "--driver", "whatsapp_web", "--json", str(place)), seconds=240
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    check(json.loads(place.read_text()))
