"""A journal in memory, which commits when the test says so, and a clock that the test can move on."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import Unavailable
from mesh_session_node.journal import (
    COMMITTED,
    AccountRef,
    Credential,
    DriverRow,
    ForgetDriverRows,
    OutboundMessage,
    Outcome,
    Row,
)


class Clock:
    """The process's clocks, which `skip` moves on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._skipped = 0.0
        monotonic, wall, wall_ns = time.monotonic, time.time, time.time_ns
        patch.setattr(time, "monotonic", lambda: monotonic() + self._skipped)
        patch.setattr(time, "time", lambda: wall() + self._skipped)
        patch.setattr(time, "time_ns", lambda: wall_ns() + int(self._skipped * 1e9))

    async def skip(self, seconds: float) -> None:
        """So much later; what was due by then has run."""
        self._skipped += seconds
        await turn()


async def turn() -> None:
    """A few turns of the loop: callbacks and tasks that wait for nothing have run."""
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class _Unit:
    owner: AccountRef
    rows: tuple[OutboundMessage | Row, ...]
    done: asyncio.Future[Outcome]


class MemoryJournal:
    """Keeps rows in the order in which they would be stored. What somebody waits for is stored by `commit`,
    the rest at once.
    """

    def __init__(self) -> None:
        self.rows: list[OutboundMessage | Row] = []
        """What is stored."""
        self.full = False
        """While set, nothing is taken that somebody would wait for."""
        self.on_commit: Callable[[list[tuple[AccountRef, OutboundMessage]]], None] = _nothing
        self.on_rows: Callable[[Collection[OutboundMessage | Row]], None] = _nothing
        self._waiting: list[_Unit] = []
        self._owned: defaultdict[UUID, list[OutboundMessage | Row]] = defaultdict(list)

    @property
    def waiting(self) -> list[OutboundMessage | Row]:
        """What the next `commit` stores."""
        return [row for unit in self._waiting for row in unit.rows]

    @property
    def units(self) -> list[tuple[OutboundMessage | Row, ...]]:
        """The same, unit by unit: what is stored whole or not at all."""
        return [unit.rows for unit in self._waiting]

    @property
    def state(self) -> bytes:
        """The driver's state that was stored last."""
        for row in reversed(self.rows):
            if isinstance(row, Credential):
                return row.blob
            if isinstance(row, OutboundMessage) and row.state is not None:
                return row.state
        raise LookupError("no state of the driver is stored")

    def driver_rows(self, owner: AccountRef) -> dict[str, bytes]:
        """The rows of the account's driver that are stored, sealed."""
        rows: dict[str, bytes] = {}
        for row in self._owned.get(owner.uuid, ()):
            if isinstance(row, ForgetDriverRows):
                rows.clear()
            elif isinstance(row, DriverRow) and row.value is not None:
                rows[row.key] = row.value
            elif isinstance(row, DriverRow):
                rows.pop(row.key, None)
        return rows

    def accept(self, owner: AccountRef, message: OutboundMessage) -> asyncio.Future[Outcome]:
        return self._take(owner, message)

    def write(self, owner: AccountRef, *rows: Row) -> asyncio.Future[Outcome]:
        return self._take(owner, *rows)

    def post(self, owner: AccountRef, *rows: Row) -> None:
        self._store(owner, rows)

    async def flush(self) -> None:
        self._settle(COMMITTED)

    async def commit(self, outcome: Outcome = COMMITTED) -> None:
        """Store what waits; or tell its callers of another outcome."""
        self._settle(outcome)
        await turn()

    def give_up(self) -> None:
        """Nobody waits any more for what waits to be stored."""
        for unit in self._waiting:
            unit.done.cancel()

    async def lose(self) -> None:
        """Nobody learns whether what waits was stored."""
        units, self._waiting = self._waiting, []
        for unit in units:
            unit.done.set_exception(Unavailable("the journal has stopped", "BACKEND_UNAVAILABLE"))
            unit.done.exception()
        await turn()

    def _settle(self, outcome: Outcome) -> None:
        units, self._waiting = self._waiting, []
        stored: list[tuple[AccountRef, OutboundMessage]] = []
        for unit in units:
            if not unit.done.done():  # its caller has not given up
                unit.done.set_result(outcome)
            if outcome is COMMITTED:
                self._store(unit.owner, unit.rows)
                self.on_rows(unit.rows)
                stored += [(unit.owner, row) for row in unit.rows if isinstance(row, OutboundMessage)]
        if stored:
            self.on_commit(stored)

    def _store(self, owner: AccountRef, rows: tuple[OutboundMessage | Row, ...]) -> None:
        self.rows += rows
        self._owned[owner.uuid] += rows

    def _take(self, owner: AccountRef, *rows: OutboundMessage | Row) -> asyncio.Future[Outcome]:
        if self.full:
            raise Unavailable("too many writes wait for the database", "BACKEND_UNAVAILABLE", retry_after=1.0)
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Unit(owner, rows, done))
        return done


def _nothing(_stored: object) -> None:
    pass
