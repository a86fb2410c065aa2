"""What makes a stock gRPC client know the mesh's control plane."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from bench.instruments.processes import ROOT


async def xds_environment(router: str) -> Mapping[str, str]:
    """The variables of a client process, from what `mesh xds-bootstrap` prints for the router at `router`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_cli",
        "xds-bootstrap",
        "--router",
        router,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"mesh xds-bootstrap ended with status {process.returncode}")
    return {"GRPC_XDS_BOOTSTRAP_CONFIG": printed.decode()}
