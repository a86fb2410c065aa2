"""How far a command is, as a bar on standard error, for as long as it takes and a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int, int | None], None]
"""Takes how much is done, and of how much: None while nobody knows."""


@contextmanager
def transfer_bar(label: str) -> Iterator[Advance]:
    """A bar of bytes, with their speed."""
    with _bar(label, DownloadColumn(), TransferSpeedColumn()) as advance:
        yield advance


@contextmanager
def item_bar(label: str) -> Iterator[Advance]:
    """A bar of things, with the time that the rest will take."""
    with _bar(label, MofNCompleteColumn(), TimeRemainingColumn()) as advance:
        yield advance


@contextmanager
def _bar(label: str, *columns: ProgressColumn) -> Iterator[Advance]:
    console = Console(stderr=True)
    shown = (TextColumn(label, markup=False), BarColumn(), *columns)
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
