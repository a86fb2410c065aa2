"""What `mesh up` prints: its steps, then where everything is and what to try."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

from mesh_cli.up.state import MeshFile
from mesh_core.settings import without_password
from mesh_session_node.drivers.whatsapp_web.process import NoSidecar, find_program


def show_running(console: Console, mesh: MeshFile, seconds: float) -> None:
    """The parts, the servers, the key, and calls to paste."""
    console.print(f"\n[bold green]The mesh is ready[/] after {seconds:.1f} s.\n")
    console.print(_parts(mesh))
    console.print(f"\nstate      {mesh.state} [dim](data, logs, mesh.json)[/]", soft_wrap=True)
    for variable, address in mesh.servers.items():
        console.print(f"[dim]{_server_name(variable):<10} {without_password(address)}[/]", soft_wrap=True)
    console.print(f"admin key  {mesh.admin_key}", soft_wrap=True)
    console.print("\n[bold]Try[/]")
    for line in _calls(mesh):
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    if not _has_sidecar():
        console.print(
            "\n[dim]Real accounts need what `make whatsapp-web` builds, where Go is: docs/whatsapp.md.[/]"
        )
    console.print("\n[dim]Ctrl-C drains and stops everything; the data stay.[/]")


def _parts(mesh: MeshFile) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("part", "gRPC", "metrics", "pid"):
        table.add_column(column, justify="right" if column == "pid" else "left")
    for name, part in mesh.parts.items():
        table.add_row(name, part.address, f"http://{part.metrics}/metrics", str(part.pid))
    return table


def _calls(mesh: MeshFile) -> list[str]:
    return [
        "mesh demo    [dim]# pair, send, kill a node, follow a trace[/]",
        "mesh tenant create acme && mesh key create --tenant acme",
        f"grpcurl -plaintext {mesh.address} list",
        f"grpcurl -plaintext -H 'authorization: Bearer {mesh.admin_key}' {mesh.address} "
        "sessionmesh.admin.v1.FleetService/ListNodes",
    ]


def _has_sidecar() -> bool:
    try:
        find_program(os.environ.get("MESH_WHATSAPP_WEB_SIDECAR", ""))
    except NoSidecar:
        return False
    return True


def _server_name(variable: str) -> str:
    names = {"MESH_ETCD_ENDPOINTS": "etcd", "MESH_DATABASE_URL": "Postgres", "MESH_REDIS_URL": "Redis"}
    return names.get(variable, "objects")
