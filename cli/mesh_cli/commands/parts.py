"""`mesh router`, `mesh session-node`, `mesh media`, `mesh webhook`, `mesh simulator`: one part each."""

from __future__ import annotations

import os
import runpy
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from mesh_parent import command_line


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
        typer.Option(help="Processes that share the port; 1 unless MESH_ROUTER_WORKERS says otherwise."),
    ] = None,
) -> None:
    """Run a router; settings come from the environment (MESH_...) and MESH_CONFIG."""
    if workers is not None:
        os.environ["MESH_ROUTER_WORKERS"] = str(workers)
    become("mesh_router")


def become(module: str) -> None:
    """Turn this process into a part of the mesh, or into the watchdog of one."""
    if module in WATCHED:
        command = part_command(module)
        os.execv(command[0], command)  # noqa: S606 - the watchdog imports next to nothing, we have much
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


WATCHED = frozenset({"mesh_session_node"})
"""Modules that run as the child of a watchdog."""


def part_command(module: str) -> list[str]:
    """Program and arguments that run a part, under its watchdog if it has one."""
    command = [sys.executable, "-m", module]
    if module not in WATCHED:
        return command
    return command_line("watchdog", {}, command)


COMMANDS = tuple(
    PartCommand(name, module, f"Run {what}; settings come from the environment (MESH_...) and MESH_CONFIG.")
    for name, module, what in (
        ("session-node", "mesh_session_node", "a session-node, under its watchdog"),
        ("media", "mesh_media", "the media service"),
        ("webhook", "mesh_webhook", "the webhook service"),
        ("simulator", "mesh_simulator", "the simulated network"),
    )
)
"""Those that take no options; `router` is the other one."""
