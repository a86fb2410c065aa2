"""Becoming the parent of several routers on one port, when that is asked for."""

from __future__ import annotations

import os
import sys

from mesh_router import workers
from mesh_router.settings import RouterSettings


def is_worker() -> bool:
    """Whether a parent started this process, and others that share its port."""
    return workers.VARIABLE in os.environ


def share_port(settings: RouterSettings) -> None:
    """Replace this process by the parent of `settings.router.workers` routers; return when that is one."""
    if settings.router.workers == 1:
        return
    options = {
        "--workers": str(settings.router.workers),
        "--listen": settings.server.listen,
        "--metrics": settings.server.metrics_listen,
    }
    parent = [
        sys.executable,
        "-I",
        "-S",
        "-E",
        workers.__file__,
        *(text for pair in options.items() for text in pair),
    ]
    # It imports next to nothing, we have much.
    os.execv(sys.executable, [*parent, "--", sys.executable, "-m", "mesh_router"])  # noqa: S606 - its purpose
