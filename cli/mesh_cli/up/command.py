"""`mesh up`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mesh_cli.up.display import show_running
from mesh_cli.up.state import default_state
from mesh_core.errors import MeshError, StartupError

if TYPE_CHECKING:
    from mesh_cli.up.stack import Stack

EXIT_UNAVAILABLE = 69
DEFAULT_PORT = 7600

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state", help="Directory of data, logs and mesh.json; by default ~/.local/state/sessionmesh."
    ),
]


def up(
    state: StateOption = None,
    nodes: Annotated[int, typer.Option(min=1, max=64, help="Session-nodes to run.")] = 3,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The router's port.")] = DEFAULT_PORT,
) -> None:
    """Run the whole mesh on this machine.

    Starts real etcd, Postgres and Redis, a directory as the object store and the simulated network, each
    unless the environment gives its address (MESH_ETCD_ENDPOINTS, MESH_DATABASE_URL, MESH_REDIS_URL,
    MESH_OBJECTS_URL, MESH_SIMNET_ADDRESS), then every part of the mesh. A second `mesh up` on the same
    directory goes on with its data.
    """
    from mesh_cli.up.stack import Stack  # here: other commands need not wait for what it imports

    console = Console(stderr=False)
    stack = Stack(
        state or default_state(),
        nodes=nodes,
        port=port,
        progress=lambda step: console.print(f"[dim]… {step}[/]"),
    )
    try:
        asyncio.run(_run(stack, console))
    except (MeshError, StartupError) as error:
        Console(stderr=True).print(f"[bold red]mesh up:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_UNAVAILABLE)


async def _run(stack: Stack, console: Console) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    began = time.monotonic()
    starting = asyncio.create_task(stack.start(), name="start")
    asked = asyncio.create_task(stopping.wait(), name="asked to stop")
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        return
    try:
        show_running(console, starting.result(), time.monotonic() - began)
        running = asyncio.create_task(stack.run(), name="run")
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        if not starting.cancelled() and starting.exception() is None:
            began = time.monotonic()
            console.print("\n[dim]… draining[/]")
            await stack.stop()
            console.print(f"Stopped in {time.monotonic() - began:.1f} s.")
