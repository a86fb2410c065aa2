"""What the TypeScript package says of versions fits the rest of the checkout."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VERSIONS = ROOT / "deploy" / "tools" / "versions.env"


def read(name: str) -> Any:
    return json.loads((ROOT / "clients" / "typescript" / name).read_text())


def test_the_package_has_the_version_of_the_mesh() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert read("package.json")["version"] == project["version"]
    lock = read("package-lock.json")
    assert (lock["version"], lock["packages"][""]["version"]) == (project["version"], project["version"])


def test_the_runtime_is_no_older_than_what_generates_for_it() -> None:
    tools = dict(line.split("=") for line in VERSIONS.read_text().splitlines() if "=" in line)
    assert read("package.json")["dependencies"]["@bufbuild/protobuf"] == f"^{tools['protoc-gen-es']}"


def test_the_lock_names_no_registry_and_holds_every_package_to_its_hash() -> None:
    packages = {name: package for name, package in read("package-lock.json")["packages"].items() if name}
    assert not any("resolved" in package for package in packages.values())
    assert all(package.get("integrity", "").startswith("sha512-") for package in packages.values())
