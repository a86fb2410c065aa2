"""Room for open files: each account online has a connection, and who runs out serves nobody."""

from __future__ import annotations

import resource

from mesh_core.errors import Misconfigured

BESIDE_SESSIONS = 1024
"""What a process needs for the rest: callers, other parts, the database, etcd, files."""


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
