"""What children of `mesh up` get of the caller's environment."""

from __future__ import annotations

import os

import pytest

from mesh_cli.embedded.environment import forget_misleading, inherited


@pytest.mark.parametrize(
    "name",
    [
        "http_proxy",
        "HTTPS_PROXY",
        "grpc_proxy",
        "no_proxy",
        "PGHOST",
        "PGSSLMODE",
        "ETCD_NAME",
        "ETCDCTL_ENDPOINTS",
        "REDISCLI_AUTH",
        "SSL_CERT_FILE",
        "AWS_ENDPOINT_URL",
        "PYTHONOPTIMIZE",
        "PYTHONWARNINGS",
        "NOTIFY_SOCKET",
    ],
)
def test_what_would_lead_a_child_elsewhere_is_not_inherited(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name not in inherited({name: "x"})
    monkeypatch.setenv(name, "x")
    forget_misleading()
    assert name not in os.environ


@pytest.mark.parametrize(
    "name",
    ["MESH_REDIS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "LD_PRELOAD", "PYTHONPATH", "PATH", "TMPDIR", "TZ"],
)
def test_what_is_meant_for_the_mesh_is_inherited(name: str) -> None:
    assert inherited({name: "x"})[name] == "x"


def test_a_childs_modules_do_not_come_from_the_callers_folder() -> None:
    assert inherited({})["PYTHONSAFEPATH"] == "1"
