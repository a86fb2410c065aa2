"""`mesh router`, `mesh session-node`, `mesh media`, `mesh webhook`, `mesh simulator`: one part each."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartCommand:
    """A command that becomes one part of the mesh."""

    name: str
    module: str
    help: str

    def run(self) -> None:
        sys.argv = [self.module]
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


COMMANDS = tuple(
    PartCommand(name, module, f"Run {what}; settings come from the environment (MESH_...) and MESH_CONFIG.")
    for name, module, what in (
        ("router", "mesh_router", "a router"),
        ("session-node", "mesh_session_node", "a session-node"),
        ("media", "mesh_media", "the media service"),
        ("webhook", "mesh_webhook", "the webhook service"),
        ("simulator", "mesh_simulator", "the simulated network"),
    )
)
