"""The fleet on a terminal: nodes, alarms, capacity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mesh_cli.commands.terminal import wide_console
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import session_pb2

SHARD_COLUMNS = ("shard", "node_id", "state", "epoch", "incarnation", "assigned_node_id", "accounts")
_COLUMNS = ("id", "state", "shards", "accounts", "capacity", "usage", "version", "started", "address")
_STATE_STYLES = {
    fleet_pb2.NODE_STATE_ACTIVE: "green",
    fleet_pb2.NODE_STATE_DRAINING: "yellow",
    fleet_pb2.NODE_STATE_STANDBY: "cyan",
}


def print_status(found: fleet_pb2.GetCapacityResponse) -> None:
    """Print nodes, alarms, and the capacity in one line."""
    console = wide_console()
    console.print(nodes_table(found.nodes))
    console.print()
    console.print(alarm_lines(found.alarms))
    console.print(_capacity_line(found), highlight=False)


def print_nodes(nodes: Iterable[fleet_pb2.Node]) -> None:
    """Print the table of nodes."""
    wide_console().print(nodes_table(nodes))


def print_capacity(found: fleet_pb2.GetCapacityResponse) -> None:
    """Print the capacity, sessions by state, and alarms."""
    console = wide_console()
    console.print(_capacity_line(found), highlight=False)
    for one in found.sessions:
        name = session_pb2.SessionState.Name(one.state).removeprefix("SESSION_STATE_").lower()
        console.print(f"  {one.count:>7,} {name}", highlight=False)
    console.print(alarm_lines(found.alarms))


def nodes_table(nodes: Iterable[fleet_pb2.Node]) -> Table:
    """A row for each node."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        numeric = column in ("shards", "accounts", "capacity", "usage")
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for node in sorted(nodes, key=lambda one: one.id):
        table.add_row(*_cells(node))
    return table


def alarm_lines(alarms: Sequence[fleet_pb2.Alarm]) -> RenderableType:
    """A line for each active alarm, or one that says that there are none."""
    if not alarms:
        return Text("no alarms", style="green")
    return Group(*[Text(alarm_text(alarm), style="bold red") for alarm in alarms])


def alarm_text(alarm: fleet_pb2.Alarm) -> str:
    """An alarm in one line, without colours."""
    name = fleet_pb2.AlarmKind.Name(alarm.kind).removeprefix("ALARM_KIND_").lower().replace("_", " ")
    return f"ALARM {name} since {alarm.since.ToJsonString()[:19]}Z: {alarm.detail}"


def state_name(node: fleet_pb2.Node) -> str:
    """`active`, or `draining to node-4`."""
    name = fleet_pb2.NodeState.Name(node.state).removeprefix("NODE_STATE_").lower()
    return f"{name} to {node.replaced_by}" if node.replaced_by else name


def is_terminal() -> bool:
    """Whether the output goes to a terminal."""
    return Console().is_terminal


def _cells(node: fleet_pb2.Node) -> list[RenderableType]:
    return [
        node.id,
        Text(state_name(node), style=_STATE_STYLES.get(node.state, "")),
        f"{node.shards:,}",
        f"{node.accounts:,}",
        f"{node.capacity:,}",
        f"{node.usage_percent:.1f} %",
        node.version or "-",
        f"{node.start_time.ToJsonString()[:19]}Z" if node.HasField("start_time") else "-",
        node.address,
    ]


def _capacity_line(found: fleet_pb2.GetCapacityResponse) -> str:
    colour = "green"
    if found.usage_percent >= found.alarm_percent:
        colour = "bold red"
    elif found.usage_percent >= found.warn_percent:
        colour = "yellow"
    return (
        f"capacity: {found.active:,} of {found.max:,} sessions, [{colour}]{found.usage_percent:.1f} %[/], "
        f"{found.available:,} free (warns at {found.warn_percent:.0f}, alarms at {found.alarm_percent:.0f} %)"
    )
