"""The `mesh` command calls a router that takes TLS connections only."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from mesh_cli.__main__ import app
from sessionmesh.admin.v1 import fleet_pb2, fleet_pb2_grpc
from tests.support.authority import Authority


class Fleet(fleet_pb2_grpc.FleetServiceServicer):
    """Has seven answers."""

    def ClearCaches(self, request: fleet_pb2.ClearCachesRequest, context: Any) -> Any:
        return fleet_pb2.ClearCachesResponse(cleared=7)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "mesh-ca")


@pytest.fixture
def address(authority: Authority) -> Iterator[str]:
    """A router that asks for certificates of the authority."""
    certificate, key = authority.issue("router")
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], authority.ca.read_bytes(), require_client_auth=True
    )
    server = grpc.server(ThreadPoolExecutor(1))
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(Fleet(), server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def mesh(*options: object) -> Result:
    words = ["--api-key", "key", *map(str, options), "fleet", "clear-caches", "--all"]
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def test_with_who_signed_it_and_a_certificate_of_its_own_it_is_answered(
    address: str, authority: Authority
) -> None:
    certificate, key = authority.issue("operator")
    own = ("--tls-certificate", certificate, "--tls-key", key)
    called = mesh("--address", address, "--tls-ca", authority.ca, *own)
    assert (called.exit_code, "7" in called.output) == (0, True), called.output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--tls-ca", "/none.pem"), "--tls-ca: /none.pem cannot be read: No such file or directory"),
        (("--tls-certificate", "a.pem"), "--tls-certificate and --tls-key belong together"),
        (("--tls-certificate", "a.pem", "--tls-key", "a.key"), "--tls-certificate needs --tls-ca"),
    ],
)
def test_options_that_cannot_be_are_refused(options: tuple[str, ...], complaint: str) -> None:
    called = mesh("--address", "127.0.0.1:1", *options)
    assert called.exit_code == 2
    assert complaint in " ".join(called.output.replace("│", " ").split())
