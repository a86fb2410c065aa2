"""`mesh up`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mesh_cli.commands.target import Target
from mesh_cli.up.display import show_running
from mesh_core.errors import MeshError, StartupError

if TYPE_CHECKING:
    from mesh_cli.up.stack import Stack

EXIT_UNAVAILABLE = 69
DEFAULT_PORT = 7600

MAX_NODES = 64


class Driver(StrEnum):
    """The network of the accounts of `mesh up`."""

    SIMULATED = "simulated"
    WHATSAPP_WEB = "whatsapp_web"


class Objects(StrEnum):
    """What `mesh up` starts as the object store."""

    DIRECTORY = "directory"
    S3 = "s3"


def up(
    context: typer.Context,
    state: Annotated[
        Path | None, typer.Option(help="The same as `mesh --state DIR up`.", show_default=False)
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, max=MAX_NODES, help="Number of session-nodes to run.")] = 3,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The router's port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    objects: Annotated[
        Objects, typer.Option(help="Where files are stored: in a directory, or in an S3 on this machine.")
    ] = Objects.DIRECTORY,
    driver: Annotated[
        Driver, typer.Option(help="The network of accounts that name none: the simulated one, or WhatsApp.")
    ] = Driver.SIMULATED,
    fake_network: Annotated[
        bool,
        typer.Option("--fake-network", help="With whatsapp_web: a network on this machine for WhatsApp."),
    ] = False,
) -> None:
    """Run the whole mesh on this machine until Ctrl-C.

    Starts etcd, Postgres, Redis, an object store and the simulated network, each unless the environment gives
    its address (MESH_ETCD_ENDPOINTS, MESH_DATABASE_URL, MESH_REDIS_URL, MESH_OBJECTS_URL,
    MESH_SIMNET_ADDRESS), then every part of the mesh. The data stay in the state directory: the next
    `mesh up` continues with them. One mesh at a time can run on a state directory.

    With --driver whatsapp_web accounts are linked devices of WhatsApp; with --fake-network too, of a network
    on this machine, which forgets them when it ends.
    """
    from mesh_cli.up.stack import Stack  # here: other commands need not wait for what it imports

    target: Target = context.obj
    console = Console()

    def say(step: str) -> None:
        with contextlib.suppress(OSError):  # our output may be on a full disk, and the mesh goes on
            console.print(f"[dim]… {escape(step)}[/]", soft_wrap=True)

    _check_driver(driver, fake_network=fake_network)
    stack = Stack(
        state or target.state_directory,
        nodes=nodes,
        port=port,
        progress=say,
        s3=objects is Objects.S3,
        driver=driver.value,
        fake_network=fake_network,
    )
    try:
        asyncio.run(_run(stack, console))
    except (MeshError, StartupError) as error:
        Console(stderr=True).print(f"[bold red]mesh up:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_UNAVAILABLE)


def _check_driver(driver: Driver, *, fake_network: bool) -> None:
    if driver is not Driver.WHATSAPP_WEB:
        if fake_network:
            raise typer.BadParameter("is for --driver whatsapp_web", param_hint="--fake-network")
        return
    from mesh_session_node.drivers.whatsapp_web.process import NoSidecar, find_program

    try:
        find_program(os.environ.get("MESH_WHATSAPP_WEB_SIDECAR", ""))
    except NoSidecar as error:
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
