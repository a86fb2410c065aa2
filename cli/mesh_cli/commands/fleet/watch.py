"""`mesh fleet watch`: the fleet as it changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from mesh_cli.commands.fleet.show import alarm_lines, alarm_text, is_terminal, nodes_table, state_name
from mesh_cli.commands.output import as_dict
from mesh_cli.commands.target import call
from mesh_cli.commands.terminal import Terminal, say
from mesh_client import Client, MeshCallError
from sessionmesh.admin.v1 import fleet_pb2

RECONNECT_SECONDS = 0.5
Frame = fleet_pb2.WatchFleetResponse


def watch_fleet(context: typer.Context, *, as_json: bool) -> None:
    """Show the fleet until Ctrl-C; when the router drains, go on with the next one."""
    with suppress(KeyboardInterrupt):
        if as_json:
            _follow(context, lambda frame, _first: print(json.dumps(as_dict(frame)), flush=True))
        elif is_terminal():
            with Live(console=Terminal(), auto_refresh=False) as live:
                table = _LiveTable(live)
                _follow(context, table.show)
        else:
            _follow(context, _Lines().show)


def _follow(context: typer.Context, show: Callable[[Frame, bool], None]) -> None:
    async def work(client: Client) -> None:
        async for frame, first in _frames(client):
            show(frame, first)

    call(context, work)


async def _frames(client: Client) -> AsyncIterator[tuple[Frame, bool]]:
    """The frames of one watch after the other; True with the first of each, which has every node."""
    while True:
        first = True
        try:
            async for frame in client.fleet.WatchFleet(fleet_pb2.WatchFleetRequest()):
                yield frame, first
                first = False
        except MeshCallError as error:
            if error.reason != "GOING_AWAY":
                raise
        await asyncio.sleep(RECONNECT_SECONDS)


class _State:
    """The nodes, according to all frames so far."""

    def __init__(self) -> None:
        self.nodes: dict[str, fleet_pb2.Node] = {}

    def apply(self, frame: Frame, first: bool) -> None:
        if first:
            self.nodes.clear()
        self.nodes.update({node.id: node for node in frame.nodes})
        for removed in frame.removed_node_ids:
            self.nodes.pop(removed, None)


class _LiveTable:
    """The status table, drawn anew with each frame."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._state = _State()

    def show(self, frame: Frame, first: bool) -> None:
        self._state.apply(frame, first)
        now = f"{datetime.now():%H:%M:%S}  table {frame.table_revision}, {frame.unowned} shards unowned"  # noqa: DTZ005 - a clock for whoever looks at it
        self._live.update(
            Group(nodes_table(self._state.nodes.values()), Text(""), alarm_lines(frame.alarms), Text(now)),
            refresh=True,
        )


class _Lines:
    """A line for each node that was added, changed or removed, and for each alarm that began or ended."""

    def __init__(self) -> None:
        self._state = _State()
        self._alarms: dict[fleet_pb2.AlarmKind.ValueType, fleet_pb2.Alarm] = {}

    def show(self, frame: Frame, first: bool) -> None:
        before = dict(self._state.nodes)
        self._state.apply(frame, first)
        lines = [
            f"{node.id} {state_name(node)}, {node.shards} shards, {node.accounts} accounts"
            for node in frame.nodes
            if node != before.get(node.id)
        ]
        lines += [f"{name} is removed" for name in before if name not in self._state.nodes]
        alarms = {alarm.kind: alarm for alarm in frame.alarms}
        lines += [alarm_text(alarm) for kind, alarm in alarms.items() if kind not in self._alarms]
        lines += [f"ended: {alarm_text(alarm)}" for kind, alarm in self._alarms.items() if kind not in alarms]
        self._alarms = alarms
        for line in lines:
            say(f"{datetime.now():%H:%M:%S} {line}")  # noqa: DTZ005 - a clock for whoever looks at it
