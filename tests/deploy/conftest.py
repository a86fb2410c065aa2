"""Secrets as a deployment has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.mesh_process import run_mesh_here


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
