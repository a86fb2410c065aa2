"""Compile protos/ into gen/ on every build: wheel, editable install, and wheel from sdist.

gen/ is a build output and never committed. After editing a .proto refresh it with `python hatch_build.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
PACKAGES = ("sessionmesh", "mesh_wire")


def generate() -> None:
    """Write gen/sessionmesh and gen/mesh_wire: messages, services and their type stubs."""
    GEN.mkdir(exist_ok=True)
    for package in PACKAGES:
        shutil.rmtree(GEN / package, ignore_errors=True)
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--proto_path={_googleapis()}",
            _plugin("protoc-gen-mypy"),
            _plugin("protoc-gen-mypy_grpc"),
            f"--python_out={GEN}",
            f"--grpc_python_out={GEN}",
            f"--mypy_out=quiet:{GEN}",
            # Servicers are concrete: what one does not define, the server answers with UNIMPLEMENTED.
            f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{GEN}",
            *sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")),
        ]
    )
    if status != 0:
        sys.exit(f"protoc exited with status {status}")
    for root in PACKAGES:
        for folder in filter(Path.is_dir, GEN.rglob(f"{root}/**/")):
            (folder / "__init__.py").touch()
        (GEN / root / "py.typed").touch()


def _googleapis() -> Path:
    """The folder that holds google/rpc/*.proto: googleapis-common-protos ships its sources."""
    return Path(next(iter(import_module("google.rpc").__path__))).parent.parent


def _plugin(name: str) -> str:
    """Find a protoc plugin in the isolated build's PATH, else beside this interpreter."""
    search = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    found = shutil.which(name, path=search)
    if found is None:
        sys.exit(f"{name} is not installed; it comes with mypy-protobuf")
    return f"--plugin={name}={found}"


class ProtoBuildHook(BuildHookInterface[Any]):
    """Called by hatchling; an sdist ships the sources only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            generate()


if __name__ == "__main__":
    generate()
