"""A part that ends is started again, and it is said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh_cli.up import child as module
from mesh_cli.up.child import Child, ChildPlan
from tests.support.eventually import eventually


async def test_a_part_that_cannot_be_started_for_now_is_tried_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: its log cannot be opened."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 0.01)
    logs = tmp_path / "logs"
    logs.mkdir()
    part = Child(ChildPlan("part", "this", {}, logs / "part.log"))  # `python -m this` prints, and ends
    said: list[str] = []
    task = asyncio.create_task(part.supervise(said.append), name="supervise")
    await eventually((logs / "part.log").exists, what="the first start")
    logs.rename(tmp_path / "away")
    await eventually(lambda: any("trying on" in line for line in said), what="a start that failed")
    logs.mkdir()
    await eventually((logs / "part.log").exists, what="another start")
    await eventually(lambda: "ended with status 0" in said[-1], what="its end")
    assert "part ended with status 0; it is being started again" in said[0]
    assert "part cannot be started, trying on: [Errno 2]" in " ".join(said)
    await part.stop()
    task.cancel()
    await asyncio.wait([task])
