"""What a process checks before it starts: that the other parts can reach it and believe it, and that it may
open as many files as it needs.
"""

from __future__ import annotations

import resource
from typing import Any

from mesh_core.errors import Misconfigured
from mesh_core.settings import BadSettings, is_every_address

BESIDE_SESSIONS = 1024
"""What a process needs for the rest: callers, other parts, the database, etcd, files."""


def refuse_stranger(settings: Any) -> None:
    """Raises `BadSettings` where others would not find this part, or would refuse its calls."""
    server, etcd = settings.server, getattr(settings, "etcd", None)
    if etcd is not None and etcd.endpoints and not server.advertise and is_every_address(server.listen):
        raise BadSettings(
            f"MESH_SERVER_ADVERTISE is required where MESH_SERVER_LISTEN is every address ({server.listen}): "
            "the host:port that the other parts reach this process at"
        )
    # The simulated network, which has no database, calls nobody.
    if getattr(settings, "database", None) is not None and not settings.auth.mesh_key:
        raise BadSettings(
            "MESH_AUTH_MESH_KEY is required: at least 16 characters, the same in all parts (`mesh secrets`)"
        )


def make_room(sessions: int) -> None:
    """Raise this process's limit as far as needed. Raises `Misconfigured` where the hard limit is too low."""
    needed = sessions + BESIDE_SESSIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and hard < needed:
        remedy = ", or lower MESH_NODE_CAPACITY" if sessions else ""
        raise Misconfigured(
            f"this process may open {hard} files and needs {needed}: raise the limit "
            f"(`ulimit -Hn {needed}`, LimitNOFILE=, or the container's ulimits){remedy}"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
