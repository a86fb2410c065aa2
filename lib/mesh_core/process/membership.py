"""Whether the other parts of the mesh can reach a process, and believe it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from mesh_core.settings import BadSettings


def refuse_stranger(settings: Any) -> None:
    """Raises `BadSettings` where others would not find this part, or would refuse its calls."""
    server, etcd = settings.server, getattr(settings, "etcd", None)
    if etcd is not None and etcd.endpoints and not server.advertise and _is_every_address(server.listen):
        raise BadSettings(
            f"MESH_SERVER_ADVERTISE is required where MESH_SERVER_LISTEN is every address ({server.listen}): "
            "the host:port that the other parts reach this process at"
        )
    # The simulated network, which has no database, calls nobody.
    if getattr(settings, "database", None) is not None and not settings.auth.mesh_key:
        raise BadSettings(
            "MESH_AUTH_MESH_KEY is required: at least 16 characters, the same in all parts (`mesh secrets`)"
        )


def _is_every_address(listen: str) -> bool:
    try:
        return ip_address(listen.rpartition(":")[0].strip("[]")).is_unspecified
    except ValueError:
        return False
