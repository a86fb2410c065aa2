"""A Go program with generated stubs, an address and a key."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.mesh_process import MeshProcess

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("go_client")
STUBS = ROOT / "stubs" / "go"
BUILD_SECONDS = 400.0


def test_a_go_program_sends_a_message(mesh: MeshProcess, tmp_path: Path) -> None:
    _require_go()
    if _outdated(STUBS):
        _run([str(ROOT / "deploy" / "tools" / "generate-stubs")], ROOT)
    program = tmp_path / "go_client"
    _run(["go", "build", "-o", str(program), "."], PROGRAM)
    message_id = _run([str(program), mesh.address, mesh.file.admin_key], tmp_path)
    assert message_id.startswith("msg_")


def _require_go() -> None:
    if shutil.which("go") is None:
        missing = "go is not on PATH: THE GO CLIENT WAS NOT TESTED"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


def _outdated(stubs: Path) -> bool:
    """Whether a proto is younger than the stubs, or there are none."""
    made = [place.stat().st_mtime for place in stubs.rglob("*.go")]
    protos = [place.stat().st_mtime for place in (ROOT / "protos").rglob("*.proto")]
    return not made or min(made) < max(protos)


def _run(command: list[str], folder: Path) -> str:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
