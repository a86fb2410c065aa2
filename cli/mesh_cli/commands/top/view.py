"""The picture of `mesh top` in a terminal of any size; 80 columns show all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from mesh_cli.commands.top.snapshot import Dependency, Fleet, Latency, Messages, Part, Snapshot, Webhooks

LABEL_WIDTH = 9
_NO_PAGES = "Rates and latencies are seen beside `mesh up`, or where MESH_ETCD_ENDPOINTS names etcd."
_UNKNOWN = "-"
_WORST_FIRST = (
    "banned",
    "conflict",
    "logged_out",
    "backoff",
    "paused",
    "pairing",
    "new",
    "connecting",
    "connected",
)
_PARTS_NEED = 4
"""Lines that the table of parts gets at least: its head, two parts, and how many more there are."""


class View:
    """A snapshot, drawn for as many lines as there are: what does not fit is the end of the list of parts."""

    def __init__(self, snapshot: Snapshot, *, keys: str = "", all_parts: bool = False) -> None:
        """`keys` says at the top what can be pressed; `all_parts`: nobody minds how long it is."""
        self._snapshot = snapshot
        self._keys = keys
        self._all = all_parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        above = Group(_head(self._snapshot, self._keys, options.max_width), *_lines(self._snapshot))
        yield above
        parts = self._snapshot.parts
        if not parts:
            return
        if self._all:
            yield parts_table(parts)
            return
        room = max(_PARTS_NEED, options.size.height - len(console.render_lines(above, options)))
        shown = len(parts) if len(parts) < room else room - 2
        yield parts_table(parts[:shown])
        if shown < len(parts):
            yield Text(f"and {len(parts) - shown} more", style="dim")


def parts_table(parts: Iterable[Part]) -> Table:
    """A row for each process."""
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for column in ("part", "state", "accounts", "shards", "memory", "CPU", "loop lag"):
        left = column in ("part", "state")
        table.add_column(column, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
    for part in parts:
        table.add_row(*_cells(part))
    return table


def _head(snapshot: Snapshot, keys: str, width: int) -> Text:
    over = snapshot.rates_over_seconds
    rates = f"  rates over {over:.0f} s" if over else ""
    head = Text(f"mesh top  {snapshot.router}  {snapshot.time[11:19]}{rates}", style="bold", no_wrap=True)
    if keys and len(head) + len(keys) < width:
        head.append(keys.rjust(width - len(head)), style="dim")
    return head


def _lines(snapshot: Snapshot) -> Iterator[RenderableType]:
    if snapshot.problem:
        yield Text(f"The router does not answer: {snapshot.problem}", style="bold red")
    table = Table.grid(padding=(0, 1))
    table.add_column(width=LABEL_WIDTH, no_wrap=True)
    table.add_column(overflow="fold")
    if snapshot.fleet:
        yield from (Text(alarm, style="bold red") for alarm in snapshot.fleet.alarms)
        for label, text in _fleet(snapshot.fleet):
            table.add_row(label, text)
    if snapshot.messages:
        for label, text in _messages(snapshot.messages):
            table.add_row(label, text)
    if snapshot.webhooks:
        table.add_row("webhooks", _webhooks(snapshot.webhooks))
    if snapshot.dependencies:
        table.add_row("needs", _joined(map(_dependency, snapshot.dependencies)))
    yield table
    if snapshot.fleet and not snapshot.dependencies:
        yield Text(_NO_PAGES, style="dim")
    yield Text("")


def _fleet(fleet: Fleet) -> Iterator[tuple[str, Text]]:
    states = ", ".join(f"{count} {state}" for state, count in fleet.nodes.items())
    nodes = Text(states) if states else Text("none", style="bold red")
    use = f"{fleet.accounts:,} of {fleet.capacity:,} accounts ({fleet.usage_percent:.1f} %)"
    alarms = (
        Text("no alarms", style="green")
        if not fleet.alarms
        else Text(f"{len(fleet.alarms)} alarms", style="bold red")
    )
    yield "nodes", _joined([nodes, Text(use), alarms])
    unowned = Text(
        f"{_count(fleet.shards_unowned)} unowned", style="bold red" if fleet.shards_unowned else ""
    )
    moving = Text(f"{_count(fleet.shards_moving)} moving", style="yellow" if fleet.shards_moving else "")
    yield "shards", _joined([unowned, moving])
    sessions = sorted(
        fleet.sessions.items(), key=lambda one: _WORST_FIRST.index(one[0]) if one[0] in _WORST_FIRST else 0
    )
    yield "sessions", _joined([_state(name, count) for name, count in reversed(sessions)] or [Text("none")])


def _messages(messages: Messages) -> Iterator[tuple[str, Text]]:
    failed = Text(
        f"failed {_rate(messages.failed_per_second)}", style="bold red" if messages.failed_per_second else ""
    )
    waiting = f"waiting {_count(messages.waiting)}"
    if messages.waiting:
        waiting += f", the oldest for {_seconds(messages.oldest_waiting_seconds)}"
    yield (
        "messages",
        _joined(
            [
                Text(f"out {_rate(messages.sent_per_second)}"),
                Text(f"in {_rate(messages.received_per_second)}"),
                failed,
                Text(waiting),
            ]
        ),
    )
    yield (
        "latency",
        _joined(
            [
                Text(f"accept {_latency(messages.accept)}"),
                Text(f"ack {_latency(messages.ack)}"),
                Text("p50 p95 p99", style="dim"),
            ]
        ),
    )


def _webhooks(webhooks: Webhooks) -> Text:
    pending = f"pending {_count(webhooks.pending)}"
    if webhooks.pending:
        pending += f", the oldest due for {_seconds(webhooks.oldest_due_seconds)}"
    outcomes = (
        Text(f"{outcome} {_rate(rate)}", style="bold red" if rate and outcome in ("failed", "lapsed") else "")
        for outcome, rate in webhooks.attempts_per_second.items()
    )
    return _joined([Text(pending), *outcomes])


def _dependency(one: Dependency) -> Text:
    state, style = {None: ("not asked", "dim"), True: ("answers", "green"), False: ("LOST", "bold red")}[
        one.answers
    ]
    text = Text(f"{one.name} ").append(state, style=style)
    if one.p95_seconds is not None:
        text.append(f" {_seconds(one.p95_seconds)}")
    return text.append(f", {one.detail}" if one.detail else "")


def _cells(part: Part) -> list[Text]:
    silent = Text("no answer", style="bold red")
    state = Text(part.state or "", style="" if part.state in (None, "active") else "yellow")
    return [
        Text(part.name),
        state if part.answers else silent,
        Text(f"{part.accounts:,}" if part.accounts is not None else ""),
        Text(f"{part.shards:,}" if part.shards is not None else ""),
        Text(decimal(int(part.memory_bytes)) if part.memory_bytes is not None else _UNKNOWN),
        Text(f"{100 * part.cpu:.0f} %" if part.cpu is not None else _UNKNOWN),
        Text(_seconds(part.loop_lag_seconds)),
    ]


def _state(name: str, count: int) -> Text:
    style = {"connected": "green", "banned": "bold red", "conflict": "bold red", "backoff": "yellow"}.get(
        name, ""
    )
    return Text(f"{name.replace('_', ' ')} {count:,}", style=style)


def _joined(texts: Iterable[Text]) -> Text:
    return Text("  ").join(texts)


def _latency(latency: Latency) -> str:
    return " ".join(map(_seconds, (latency.p50, latency.p95, latency.p99)))


def _count(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:,.0f}"


def _rate(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,.1f}/s" if value < 100 else f"{value:,.0f}/s"


def _seconds(value: float | None) -> str:
    """Such as 4 ms, 1.2 s or 3 min."""
    if value is None:
        return _UNKNOWN
    if value < 1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:,.0f} min"
