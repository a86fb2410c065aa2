"""Which mesh a command calls, and how errors are shown."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.markup import escape

from mesh_cli.commands.terminal import Terminal
from mesh_cli.embedded.environment import call_loopback_directly
from mesh_cli.up.state import MeshFile, default_state, running_mesh
from mesh_client import Client, MeshCallError, Tls, connect

EXIT_FAILED = 1
EXIT_NO_MESH = 69
T = TypeVar("T")
AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT_ID", help="The account's id, acc_...")]


@dataclass(slots=True)
class Target:
    """What the options before the command say; the mesh.json of a local mesh says what they do not."""

    address: str = ""
    api_key: str = ""
    state: Path | None = None
    tls: Tls | None = None

    @property
    def state_directory(self) -> Path:
        """The state directory of the mesh on this machine, which need not run."""
        return self.state or default_state()


def remember_target(
    context: typer.Context,
    address: Annotated[
        str,
        typer.Option(
            envvar="MESH_ADDRESS",
            show_default=False,
            help="The router to call, host:port. Default: the mesh that runs on this machine.",
        ),
    ] = "",
    api_key: Annotated[
        str,
        typer.Option(
            envvar="MESH_API_KEY",
            show_default=False,
            help="The API key to call with. Default: the administrator's key of the mesh on this machine.",
        ),
    ] = "",
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="MESH_STATE",
            show_default=False,
            help="State directory of the mesh on this machine: its data, logs and mesh.json. "
            "Default: ~/.local/state/sessionmesh.",
        ),
    ] = None,
    tls_ca: Annotated[
        str,
        typer.Option(
            envvar="MESH_TLS_CA",
            show_default=False,
            help="Call the router with TLS. A PEM file with who signed its certificate, or the word system.",
        ),
    ] = "",
    tls_certificate: Annotated[
        str,
        typer.Option(
            envvar="MESH_TLS_CERTIFICATE",
            show_default=False,
            help="A PEM file to show to a router that asks callers for a certificate; with --tls-key.",
        ),
    ] = "",
    tls_key: Annotated[
        str,
        typer.Option(envvar="MESH_TLS_KEY", show_default=False, help="The certificate's key, a PEM file."),
    ] = "",
) -> None:
    """Keep the options that stand before the command."""
    context.obj = Target(address, api_key, state, _tls(tls_ca, tls_certificate, tls_key))


def local_mesh(target: Target) -> MeshFile | None:
    """The mesh that runs on this machine; None when none does."""
    call_loopback_directly()
    return running_mesh(target.state_directory)


def call(context: typer.Context, work: Callable[[Client], Awaitable[T]]) -> T:
    """Run `work` with a client. An error of the mesh is printed, and ends the command with exit code 1."""
    target: Target = context.obj
    mesh = None if target.address and target.api_key else local_mesh(target)
    address = target.address or (mesh.address if mesh else "")
    api_key = target.api_key or (mesh.admin_key if mesh else "")
    if not address or not api_key:
        fail(
            "no mesh runs on this machine: start one with `mesh up`, or give --address and --api-key "
            "(MESH_ADDRESS, MESH_API_KEY)",
            EXIT_NO_MESH,
        )
    try:
        return asyncio.run(_with_client(address, api_key, target.tls, work))
    except MeshCallError as error:
        fail(_sentence(error), EXIT_FAILED)


def fail(message: str, code: int) -> NoReturn:
    """Print one line to stderr and end the command."""
    Terminal(stderr=True).print(f"[bold red]mesh:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(code)


async def _with_client(
    address: str, api_key: str, tls: Tls | None, work: Callable[[Client], Awaitable[T]]
) -> T:
    async with connect(address, api_key, tls=tls, transport="plain") as client:
        return await work(client)


def _tls(ca: str, certificate: str, key: str) -> Tls | None:
    """What the options say of TLS; None: none of it. Raises `typer.BadParameter`."""
    if bool(certificate) != bool(key):
        raise typer.BadParameter("--tls-certificate and --tls-key belong together")
    if not ca:
        if certificate:
            raise typer.BadParameter("--tls-certificate needs --tls-ca: a file, or the word system")
        return None
    return Tls(
        ca=None if ca == "system" else _pem("--tls-ca", ca),
        certificate=_pem("--tls-certificate", certificate) if certificate else None,
        key=_pem("--tls-key", key) if key else None,
    )


def _pem(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{option}: {path} cannot be read: {error.strerror}") from None


def _sentence(error: MeshCallError) -> str:
    parts = [f"{error.code.name} {error.reason}".strip() + f": {error.message}"]
    described = [f"{violation.field}: {violation.description}" for violation in error.field_violations]
    return "\n  ".join([*parts, *(line for line in described if line not in error.message)])
