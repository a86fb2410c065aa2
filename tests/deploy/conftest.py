"""Secrets as a deployment has them, and what the image holds."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh_process import run_mesh_here
from tests.support.tools import missing_tool

INSTALL = Path(__file__).parents[2] / "deploy" / "docker" / "install"
INSTALL_SECONDS = 300.0


@pytest.fixture(scope="package")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `mesh secrets` made."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    done = run_mesh_here("secrets", str(folder), "--shared")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="package")
def config(secrets: Path) -> Path:
    """The file that MESH_CONFIG names."""
    return secrets / "mesh" / "mesh.toml"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path."""
    made = Path(tempfile.mkdtemp(prefix="sessionmesh-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="package")
def prefix() -> Iterator[Path]:
    """What the image has in /opt/sessionmesh."""
    if shutil.which("go") is None:
        missing_tool("go is not on PATH. NOT TESTED: THE IMAGE'S CONTENT")
    with tempfile.TemporaryDirectory(prefix="sessionmesh-test-") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "sessionmesh"
        done = subprocess.run(
            [INSTALL, place], capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield place
