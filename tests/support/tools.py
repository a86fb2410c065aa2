"""Programs that tests use: where `make tools` puts them, and what a test does when one is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

VERSIONS = Path(__file__).parents[2] / "deploy" / "tools" / "versions.env"


def tools_folder() -> Path:
    """The cache, outside the checkout, of everything that is built once."""
    return Path(os.environ.get("MESH_TOOLS") or Path.home() / ".cache" / "sessionmesh" / "tools")


def tool_path(name: str) -> Path:
    """Where `make tools` puts program `name` of the pinned version."""
    lines = (line for line in VERSIONS.read_text().splitlines() if line and not line.startswith("#"))
    versions = dict(line.split("=", 1) for line in lines)
    return tools_folder() / f"{name}-{versions[name]}" / name


def require_tool(name: str) -> Path:
    """The program's path; a test without it is skipped, or fails when CI=true."""
    program = tool_path(name)
    if not program.exists():
        missing_tool(f"{name} is not built ({program}): run `make tools`")
    return program


def require_on_path(name: str, untested: str) -> None:
    """A test without program `name` is skipped, or fails when CI=true, and says what is `untested` then."""
    if shutil.which(name) is None:
        missing_tool(f"{name} is not on PATH. NOT TESTED: {untested.upper()}")


def missing_tool(problem: str) -> NoReturn:
    """Skip the test, loudly; fail it when CI=true: CI has every tool."""
    if os.environ.get("CI") == "true":
        pytest.fail(problem)
    pytest.skip(problem)
