"""What a mesh takes over from its caller's environment: nothing that leads its parts elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mesh_cli.embedded.ports import LOOPBACK

_PROXIES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "GRPC_PROXY", "NO_GRPC_PROXY"}
)
"""In upper or lower case."""

_STRANGERS = (
    "PG",
    "ETCD_",
    "ETCDCTL_",
    "REDIS",
    "VALKEY",
    "AWS_",
    "PYTHON",
    "SSL_CERT_",
    "LISTEN_",
    "WATCHDOG_",
)
"""Beginnings of names: settings of the servers themselves, of the libraries that talk to them, of Python, and
what systemd tells the one process that it started."""

_KEPT = frozenset({"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"})
"""The parts are to run the code that we run."""

_NAMES = frozenset({"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "NOTIFY_SOCKET"})

_SPARED = "no_grpc_proxy"
"""gRPC reads it in lower case, and instead of `no_proxy`."""

_SET = {"PYTHONSAFEPATH": "1"}
"""A file `grpc.py` where `mesh up` is called is not what the parts import."""


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child gets of `environment`; the mesh's own settings (MESH_...) and OTEL_... are in it."""
    return {name: value for name, value in environment.items() if not _misleads(name)} | _SET


def forget_misleading() -> None:
    """Take out of this process's environment what its children do not get: its libraries read it, too."""
    for name in [*os.environ]:
        if _misleads(name):
            del os.environ[name]


def call_loopback_directly() -> None:
    """Have gRPC use no proxy for a mesh on this machine; others may well be behind one."""
    spared = os.environ.get(_SPARED) or os.environ.get("no_proxy")
    os.environ[_SPARED] = f"{spared},{LOOPBACK}" if spared else LOOPBACK


def _misleads(name: str) -> bool:
    if name in _KEPT:
        return False
    return name in _NAMES or name.upper() in _PROXIES or name.startswith(_STRANGERS)
