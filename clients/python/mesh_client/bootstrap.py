"""gRPC's xDS bootstrap: which routers serve the control plane.

gRPC reads it from the environment whenever it makes its xDS client, which all xDS channels of the process
share, and makes that anew after a time without calls. So there is one for the process, and it stays as it is.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from mesh_client.channels import Tls

FILE_VARIABLE = "GRPC_XDS_BOOTSTRAP"
CONTENT_VARIABLE = "GRPC_XDS_BOOTSTRAP_CONFIG"


class ProcessBootstrap:
    """The bootstrap of this process: the user's, or one made for the first mesh that a client connects to."""

    def __init__(self, environment: Any = os.environ) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._own: tuple[frozenset[str], Tls | None] | None = None

    def claim(self, routers: Sequence[str], tls: Tls | None) -> bool:
        """Whether the process's xDS channels lead to these routers, from now on if there was no bootstrap."""
        if tls is not None and not hasattr(os, "memfd_create"):
            return False
        with self._lock:
            if self._own is not None:
                return self._own == (frozenset(routers), tls)
            users = self._users()
            if users is not None:
                return not _servers(users).isdisjoint(routers)
            self._environment[CONTENT_VARIABLE] = bootstrap(routers, tls)
            self._own = (frozenset(routers), tls)
            return True

    @property
    def present(self) -> bool:
        """Whether the environment names a bootstrap."""
        return FILE_VARIABLE in self._environment or CONTENT_VARIABLE in self._environment

    def servers(self) -> list[str]:
        """The routers that it names; none when it cannot be read."""
        if self._own is not None:
            return sorted(self._own[0])
        return sorted(_servers(self._users()))

    def _users(self) -> object:
        """The user's bootstrap; None when there is none, "" when it cannot be read."""
        path = self._environment.get(FILE_VARIABLE)
        content = self._environment.get(CONTENT_VARIABLE)
        if path is None and content is None:
            return None
        try:
            found = json.loads(Path(path).read_text() if path else content)
            # Not the user's: a client in the parent process made it, and this process inherited it.
            return None if str(found["node"]["id"]).startswith(_NODE) else found
        except (OSError, ValueError, LookupError, TypeError):
            return ""


def _servers(found: Any) -> set[str]:
    try:
        return {str(server["server_uri"]) for server in found["xds_servers"]}
    except (LookupError, TypeError):
        return set()


PROCESS = ProcessBootstrap()


def bootstrap(routers: Sequence[str], tls: Tls | None) -> str:
    """The bootstrap as JSON; where more routers are given, each takes over from those before it."""
    credentials: dict[str, Any] = {"type": "insecure"}
    content: dict[str, Any] = {"node": {"id": f"{_NODE}{uuid.uuid4()}", "locality": {}}}
    if tls is not None:
        files = _files(tls)
        credentials = {"type": "tls", "config": files}
        # The name under which the mesh's clusters refer to it.
        content["certificate_providers"] = {
            "sessionmesh": {"plugin_name": "file_watcher", "config": {**files, "refresh_interval": "3600s"}}
        }
    content["xds_servers"] = [
        {"server_uri": router, "channel_creds": [credentials], "server_features": ["xds_v3"]}
        for router in routers
    ]
    return json.dumps(content)


def _files(tls: Tls) -> dict[str, str]:
    files = {"ca_certificate_file": _file("ca", tls.ca) if tls.ca else _system_authorities()}
    if tls.certificate and tls.key:
        files["certificate_file"] = _file("certificate", tls.certificate)
        files["private_key_file"] = _file("key", tls.key)
    return files


def _file(name: str, content: bytes) -> str:
    """A path to `content`, which stays in memory, for as long as the process lives: gRPC reads paths only."""
    descriptor = os.memfd_create(f"mesh-client-{name}")
    os.write(descriptor, content)
    return f"/proc/self/fd/{descriptor}"


def _system_authorities() -> str:
    return ssl.get_default_verify_paths().cafile or str(Path(grpc.__file__).parent / _GRPC_ROOTS)


_NODE = "mesh-client-"
_GRPC_ROOTS = "_cython/_credentials/roots.pem"
