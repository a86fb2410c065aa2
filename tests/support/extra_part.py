"""One more process beside a running mesh, with the settings that a part of that mesh has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from mesh_cli.embedded import free_port
from tests.support.authority import Authority
from tests.support.mesh_process import MeshProcess


@contextmanager
def part_with_certificate(mesh: MeshProcess, folder: Path) -> Iterator[str]:
    """A webhook service in a cluster of its own, whose certificate ends within the hour: its metrics page."""
    certificate, key = Authority(folder, "authority").issue("part")
    page = f"127.0.0.1:{free_port()}"
    environment = psutil.Process(mesh.file.parts["webhook"].pid).environ() | {
        "MESH_CLUSTER_NAME": "alone",
        "MESH_SERVER_LISTEN": "127.0.0.1:0",
        "MESH_SERVER_METRICS_LISTEN": page,
        "MESH_SERVER_TLS_CERTIFICATE": str(certificate),
        "MESH_SERVER_TLS_KEY": str(key),
    }
    with (folder / "part.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mesh_cli", "webhook"], env=environment, stdout=log, stderr=log
        )
    try:
        yield page
    finally:
        process.terminate()
        process.wait(30)
