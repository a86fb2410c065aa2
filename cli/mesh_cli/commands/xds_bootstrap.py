"""`mesh xds-bootstrap`: the file that gRPC clients find the mesh's control plane with."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh_cli.commands.target import EXIT_NO_MESH, Target, fail, local_mesh

EXIT_USAGE = 64
CERTIFICATES = "sessionmesh"
"""The certificate provider that the control plane's clusters refer to."""
REREAD_SECONDS = 600
MAX_PORT = 65535


def xds_bootstrap(
    context: typer.Context,
    router: Annotated[
        list[str] | None,
        typer.Option(
            help="A router, host:port; may be given several times. Default: the mesh on this machine."
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authority that signed the mesh's certificates.")
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(help="PEM file of the client's own certificate, where the mesh asks for one."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
) -> None:
    """Print the xDS bootstrap file for gRPC clients.

    Save it, and set GRPC_XDS_BOOTSTRAP to its path.
    """
    routers = router or _routers_here(context.obj)
    for address in routers:
        _check_address(address)
    files = _tls_files(tls_ca, tls_certificate, tls_key)
    json.dump(bootstrap(routers, files), sys.stdout, indent=2)
    sys.stdout.write("\n")


def bootstrap(routers: list[str], files: dict[str, str]) -> dict[str, Any]:
    """The bootstrap file's content. `files` are the fields of gRPC's `tls` credentials; empty without TLS."""
    credentials: dict[str, Any] = {"type": "insecure"}
    if files:
        credentials = {"type": "tls", "config": files}
    document: dict[str, Any] = {
        "xds_servers": [
            {"server_uri": address, "channel_creds": [credentials], "server_features": ["xds_v3"]}
            for address in routers
        ],
        # Some clients fail without a locality, empty or not.
        "node": {"id": f"sessionmesh-client-{uuid.uuid4()}", "locality": {}},
    }
    if files:
        provider = files | {"refresh_interval": f"{REREAD_SECONDS}s"}
        document["certificate_providers"] = {
            CERTIFICATES: {"plugin_name": "file_watcher", "config": provider}
        }
    return document


def _routers_here(target: Target) -> list[str]:
    if target.address:
        return [target.address]
    mesh = local_mesh(target)
    if mesh is None:
        fail(
            "no mesh runs on this machine: start one with `mesh up`, or give --router HOST:PORT", EXIT_NO_MESH
        )
    return [mesh.address]


def _check_address(address: str) -> None:
    target = address.rpartition("/")[2]  # also a gRPC target such as dns:///host:port
    host, _, port = target.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= MAX_PORT:
        fail(f"--router {address!r} must be host:port", EXIT_USAGE)


def _tls_files(ca: Path | None, certificate: Path | None, key: Path | None) -> dict[str, str]:
    if (certificate is None) != (key is None):
        missing = "--tls-key" if key is None else "--tls-certificate"
        fail(f"{missing} must be given too: certificate and key come together", EXIT_USAGE)
    if certificate is not None and ca is None:
        fail("--tls-ca must be given too: servers are checked against it", EXIT_USAGE)
    files: dict[str, str] = {}
    for field, option, path in (
        ("ca_certificate_file", "--tls-ca", ca),
        ("certificate_file", "--tls-certificate", certificate),
        ("private_key_file", "--tls-key", key),
    ):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:
                fail(f"{option} {path}: {error.strerror}", EXIT_USAGE)
            files[field] = str(path.absolute())
    return files
