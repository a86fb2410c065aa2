"""`mesh demo` on a running mesh."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.mesh_process import MeshProcess, run_mesh

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


def test_everything_that_the_demo_shows_is_true(mesh: MeshProcess, tmp_path: Path) -> None:
    place = tmp_path / "figures.json"
    ended = run_mesh("--state", str(mesh.state), "demo", "--json", str(place), seconds=180)
    assert ended.returncode == 0, ended.stdout + ended.stderr + mesh.report()
    figures = json.loads(place.read_text())
    assert set(figures) == FIGURES
    assert figures["sent"] == figures["delivered"] > 0
    assert (figures["lost"], figures["duplicates"], figures["overlaps"]) == (0, 0, 0)
    assert figures["unreadable"] == 0
    assert figures["webhooks_verified"] > figures["delivered"]
    assert figures["failover_seconds"] >= 0
    assert {f"sessionmesh-{part}" for part in ("router", "session-node", "media", "webhook")} <= set(
        figures["trace_services"]
    )
    traced = run_mesh("--state", str(mesh.state), "trace", figures["trace_id"])
    assert traced.returncode == 0, traced.stderr
    assert "mesh.journal.commit" in traced.stdout


def test_a_photograph_that_is_not_there_is_refused(mesh: MeshProcess) -> None:
    ended = run_mesh("--state", str(mesh.state), "demo", "--photo", "nothing.jpg")
    assert ended.returncode == 2
    assert "nothing.jpg" in ended.stderr
