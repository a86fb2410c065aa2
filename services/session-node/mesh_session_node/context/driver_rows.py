"""A driver's rows, as one connection of an account reads and writes them.

What is stored of a library's state must never be older than what another change was made from, and a message
must not be used up without being stored. So changes are stored in the order in which the driver handed them
over, also those that came with a message, which is stored only once what it refers to was looked up: nothing
that was handed over behind them is stored before them, or without them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import MeshError
from mesh_session_node.drivers.interface.state import RowChange, StateUnavailable
from mesh_session_node.journal import AccountRef, Committed, DriverRow, Journal, Outcome
from mesh_session_node.store.driver_rows import binding


class RowHost(Protocol):
    """What rows need of the node."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def journal(self) -> Journal: ...

    def seal(self, tenant: UUID, plain: bytes, context: bytes) -> bytes:
        """Encrypts with the tenant's data key, which is loaded."""

    async def read_rows(
        self, ref: AccountRef, keys: Collection[str], prefixes: Collection[str]
    ) -> Mapping[str, bytes]:
        """The stored rows, opened. Raises `StateUnavailable`."""


class DriverRows:
    """Implements `StateRows`. `failed` is called, in a later turn of the loop, when changes are not stored:
    the connection must end, and nothing is stored for it any more.
    """

    __slots__ = ("_arrivals", "_failed", "_host", "_ref", "account_id", "over")

    def __init__(self, account_id: str, ref: AccountRef, host: RowHost, failed: Callable[[], None]) -> None:
        self.account_id = account_id
        self.over = False
        """The connection has ended: nothing is read or written any more."""
        self._ref = ref
        self._host = host
        self._failed = failed
        self._arrivals: deque[ArrivedRows] | None = None  # most networks bring none

    async def read(self, keys: Collection[str] = (), prefixes: Collection[str] = ()) -> Mapping[str, bytes]:
        if self.over:
            raise StateUnavailable("the connection has ended")
        return await self._host.read_rows(self._ref, keys, prefixes)

    def write(self, changes: Sequence[RowChange]) -> asyncio.Future[bool]:
        stored: asyncio.Future[bool] = self._host.loop.create_future()
        if self._arrivals:
            self._arrivals[-1].behind.append((changes, stored))
        else:
            self._write(changes, stored)
        return stored

    def arrived(self, changes: Sequence[RowChange]) -> ArrivedRows:
        """Changes came with a message: what comes from now on is stored after them."""
        if self._arrivals is None:
            self._arrivals = deque()
        arrived = ArrivedRows(self, changes, self._host.loop.create_future())
        self._arrivals.append(arrived)
        return arrived

    def end(self) -> None:
        """The connection has ended."""
        self.over = True

    def sealed(self, changes: Sequence[RowChange]) -> list[DriverRow]:
        """Changes as they are stored."""
        return seal_rows(self._host, self._ref, changes)

    def settled(self, arrived: ArrivedRows, *, stored: bool) -> None:
        """It is the turn of what came behind; were these not stored, nothing behind them may be."""
        if self._arrivals is not None:
            self._arrivals.remove(arrived)
        if not stored:
            self._fail()
        for changes, done in arrived.behind:
            self._write(changes, done)

    def _write(self, changes: Sequence[RowChange], stored: asyncio.Future[bool]) -> None:
        if self.over:
            stored.set_result(False)
            return
        try:
            done = self._host.journal.write(self._ref, *self.sealed(changes))
        except MeshError:  # too much waits for the database, or it will take nothing more
            self._fail()
            stored.set_result(False)
            return
        done.add_done_callback(partial(self._written, stored))

    def _written(self, stored: asyncio.Future[bool], done: asyncio.Future[Outcome]) -> None:
        known = not done.cancelled() and done.exception() is None
        success = known and isinstance(done.result(), Committed)
        if not success:
            self._fail()
        if not stored.done():
            stored.set_result(success)

    def _fail(self) -> None:
        if not self.over:
            self.over = True
            self._host.loop.call_soon(self._failed)


class ArrivedRows:
    """The changes that came with one message, on their way to being stored with it. `behind` are those that
    must wait for them; `settled` is done once they are stored, or never will be.
    """

    __slots__ = ("_changes", "_rows", "behind", "handed_over", "settled")

    def __init__(self, rows: DriverRows, changes: Sequence[RowChange], settled: asyncio.Future[None]) -> None:
        self._rows = rows
        self._changes = changes
        self.handed_over = False
        """They are in a unit of the journal, whose outcome is not known yet, or was success."""
        self.settled = settled
        self.behind: list[tuple[Sequence[RowChange], asyncio.Future[bool]]] = []

    @property
    def over(self) -> bool:
        """Their connection has ended: they come again."""
        return self._rows.over

    def take(self) -> list[DriverRow]:
        """What must be stored in the unit that is about to be written: all of it, once."""
        if self.handed_over:
            return []
        self.handed_over = True
        return self._rows.sealed(self._changes)

    def keep(self) -> None:
        """The unit was not stored: they are still to be, unless they were before."""
        self.handed_over = self.settled.done()

    def settle(self, *, stored: bool) -> None:
        """They are stored, or never will be. Once; then nothing."""
        if not self.settled.done():
            self.settled.set_result(None)
            self._rows.settled(self, stored=stored)


def seal_rows(host: RowHost, ref: AccountRef, changes: Sequence[RowChange]) -> list[DriverRow]:
    """Changes as they are stored."""

    def sealed(change: RowChange) -> bytes | None:
        if change.value is None:
            return None
        return host.seal(ref.tenant, change.value, binding(ref.uuid, change.key))

    return [DriverRow(change.key, sealed(change)) for change in changes]
