"""`mesh demo`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.demo import shows_the_truth
from tests.support.mesh_process import MeshProcess
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import is_built


def test_everything_that_the_demo_shows_is_true(mesh: MeshProcess, tmp_path: Path) -> None:
    shows_the_truth(mesh.state, tmp_path / "figures.json")


@pytest.mark.timed
@pytest.mark.long
def test_where_no_mesh_runs_the_demo_starts_one(tmp_path: Path) -> None:
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    shows_the_truth(tmp_path / "state", tmp_path / "figures.json", "--driver", "whatsapp_web")
