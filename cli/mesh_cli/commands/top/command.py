"""`mesh top`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live

from mesh_cli.commands.fleet.show import is_terminal
from mesh_cli.commands.output import AsJson
from mesh_cli.commands.target import EXIT_FAILED, Target, call, fail, local_mesh
from mesh_cli.commands.terminal import Terminal
from mesh_cli.commands.top.reading import Source
from mesh_cli.commands.top.snapshot import Reading, Snapshot, picture
from mesh_cli.commands.top.view import View
from mesh_client import Client, PermissionDenied

WINDOW = 5
"""Rates are over so many intervals."""
WIDTH = 80
"""Columns of one picture that goes to a pipe."""
KEYS = "q ends"


def top(
    context: typer.Context,
    interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.5, max=60, help="How often to look; rates are over five times as long."
        ),
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture, and end; so it does where no terminal is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how the mesh does, as it goes: nodes, sessions, messages, webhooks, what it needs.

    It takes an administrator's key. The router tells of nodes, shards, sessions and alarms; rates, latencies
    and the rest are on the parts' metrics pages, which are known beside `mesh up`, and from etcd where
    MESH_ETCD_ENDPOINTS or MESH_CONFIG names it. What does not answer is shown as such. q or Ctrl-C ends it.

    With --json, or --once, it looks twice, an interval apart, and prints what it saw: one JSON object, or
    one picture. The exit code is then 1 when the router did not answer.
    """
    target: Target = context.obj
    live = is_terminal() and not (once or as_json)

    async def work(client: Client) -> Snapshot | None:
        source = Source(client, target)
        try:
            if live:
                await _follow(source, _router(target), interval)
                return None
            before = await source.read()
            await asyncio.sleep(interval)
            return picture(_router(target), before, await source.read())
        except PermissionDenied:
            fail("mesh top takes an administrator's key: --api-key, or MESH_API_KEY", EXIT_FAILED)

    try:
        snapshot = call(context, work)
    except KeyboardInterrupt:
        return
    if snapshot is None:
        return
    if as_json:
        print(json.dumps(asdict(snapshot)))
    else:
        console = Terminal(width=None if is_terminal() else WIDTH)
        console.print(View(snapshot, all_parts=True))
    if snapshot.problem:
        sys.exit(EXIT_FAILED)


async def _follow(source: Source, router: str, interval: float) -> None:
    """Draw the picture each interval, and at once when the terminal has another size, until q is pressed."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    readings: deque[Reading] = deque(maxlen=WINDOW + 1)
    with _keys(ended), Live(console=Terminal(), screen=True, auto_refresh=False) as shown:
        loop.add_signal_handler(signal.SIGWINCH, shown.refresh)
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        try:
            while not ended.is_set():
                readings.append(await source.read())
                shown.update(View(picture(router, readings[0], readings[-1]), keys=KEYS), refresh=True)
                with suppress(TimeoutError):
                    async with asyncio.timeout(interval):
                        await ended.wait()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            loop.remove_signal_handler(signal.SIGTERM)


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Hear of q as it is pressed, where there is a keyboard; the terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    loop = asyncio.get_running_loop()

    def pressed() -> None:
        if "q" in os.read(keyboard, 64).decode(errors="replace").lower():
            ended.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _router(target: Target) -> str:
    mesh = None if target.address else local_mesh(target)
    return target.address or (mesh.address if mesh else "")
