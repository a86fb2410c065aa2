"""`mesh demo`."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mesh_cli.commands.target import local_mesh
from mesh_cli.commands.terminal import Terminal, wide_console
from mesh_cli.commands.up import Driver
from mesh_cli.demo.figures import Figures
from mesh_cli.up.state import MeshFile
from mesh_client import MeshCallError
from mesh_core.errors import MeshError

EXIT_FAILED = 1


def demo(
    context: typer.Context,
    photo: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Send this photograph instead of the default."),
    ] = None,
    driver: Annotated[
        Driver,
        typer.Option(help="The network of its accounts; whatsapp_web: one that stands in for WhatsApp."),
    ] = Driver.SIMULATED,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Show what the mesh does, and check everything shown.

    Pairs accounts, sends text and a photograph, receives replies, verifies webhooks, kills a session-node and
    sends on, follows one message's trace, and ends with the verdict of the network's ledger: exit code 0 only
    if nothing was lost, duplicated or connected twice. Uses the mesh on this machine, or starts its own.
    """
    console = wide_console()
    try:
        figures = asyncio.run(_run(console, local_mesh(context.obj), photo, driver))
    except (MeshError, MeshCallError, TimeoutError) as error:
        Terminal(stderr=True).print(
            f"[bold red]mesh demo:[/] {escape(str(error) or 'timed out')}", soft_wrap=True
        )
        sys.exit(EXIT_FAILED)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    if faults := figures.faults():
        console.print(f"[bold red]Not as it should be:[/] {'; '.join(faults)}.")
        sys.exit(EXIT_FAILED)
    console.print("[bold green]Everything shown is true.[/]")


async def _run(console: Console, running: MeshFile | None, chosen: Path | None, driver: Driver) -> Figures:
    # Here: other commands need not wait for what these import.
    from mesh_cli.demo.own_mesh import own_mesh
    from mesh_cli.demo.photo import load_photo
    from mesh_cli.demo.tour import Tour

    photo = load_photo(chosen)
    if running is not None:
        return await Tour(console, running, driver.value).run(photo)
    console.print("[dim]… no mesh runs on this machine: starting one for the demo[/]")
    async with own_mesh(driver.value) as mesh:
        figures = await Tour(console, mesh, driver.value).run(photo)
        console.print("[dim]… stopping the demo's mesh[/]")
    return figures
