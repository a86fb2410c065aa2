"""`mesh router`, `mesh session-node`, `mesh media`, `mesh webhook`, `mesh simulator`: one part each."""

from __future__ import annotations

import os
import runpy
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from mesh_cli.up.child import WATCHED, part_command


@dataclass(frozen=True, slots=True)
class PartCommand:
    """A command that becomes one part of the mesh, or the watchdog of one."""

    name: str
    module: str
    help: str

    def run(self) -> None:
        become(self.module)


def router(
    workers: Annotated[
        int | None,
        typer.Option(help="Number of processes that share the port. Default: MESH_ROUTER_WORKERS, or 1."),
    ] = None,
) -> None:
    """Run a router. Settings: environment variables MESH_..., and the file that MESH_CONFIG names."""
    if workers is not None:
        os.environ["MESH_ROUTER_WORKERS"] = str(workers)
    become("mesh_router")


def become(module: str) -> None:
    """Turn this process into a part of the mesh, or into its watchdog."""
    if module in WATCHED:
        command = part_command(module)
        os.execv(command[0], command)  # noqa: S606 - the watchdog imports next to nothing, we have much
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


COMMANDS = tuple(
    PartCommand(
        name,
        module,
        f"Run {what}. Settings: environment variables MESH_..., and the file that MESH_CONFIG names.",
    )
    for name, module, what in (
        ("session-node", "mesh_session_node", "a session-node, under its watchdog"),
        ("webhook", "mesh_webhook", "the webhook service"),
        ("simulator", "mesh_simulator", "the simulated network"),
    )
)
"""All parts but the router, which has options, and media, which has commands."""
