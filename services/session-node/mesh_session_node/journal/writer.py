"""Group commit: one writer per node batches the rows of all its callers, and stores one batch at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeGuard

import asyncpg
import structlog

from mesh_core.errors import Unavailable
from mesh_core.ids import Prefix, encode
from mesh_session_node.journal.answer import Answer, outcomes
from mesh_session_node.journal.batch import Columns, Unit
from mesh_session_node.journal.batch_sender import BatchSender, DataRefused, TooSlow
from mesh_session_node.journal.entries import Entry, Flush, abandon, size_of, stopped
from mesh_session_node.journal.outcomes import COMMITTED, Outcome, Poison
from mesh_session_node.journal.rows import (
    AccountRef,
    Event,
    OutboundMessage,
    PersonIdentity,
    ReceiptPart,
    Row,
    StatusChange,
)
from mesh_session_node.journal.telemetry import POISON, WAITING, record_commit

logger = structlog.get_logger(__name__)

_NOTHING: Mapping[int, int] = {}
Stored = Sequence[tuple[AccountRef, OutboundMessage]]
"""Messages of one commit, each with its account."""


class Journal:
    """The writer. Call it from one event loop; only `run`, in a task of its own, touches the connection.

    `after_commit` is called after each batch that may have stored events.

    A lone caller's rows are written at once. When others came during a commit, batches start at least `gap`
    seconds apart: that fills them, and costs a third less for each message. While Postgres is unavailable,
    callers wait; up to `bound` units.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        incarnation: str,
        *,
        after_commit: Callable[[], None] = lambda: None,
        gap: float = 0.004,
        bound: int = 20_000,
    ) -> None:
        self._sender = BatchSender(connect, incarnation)
        self._after_commit = after_commit
        self._gap = gap
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        self._on_commit: Callable[[Stored], None] = _ignore
        self._now: list[Entry] = []  # in the next batch
        self._held: list[Entry] = []  # nobody waits for these
        self._held_timer: asyncio.TimerHandle | None = None
        self._held_due = False
        self._writing: list[Entry] = []
        self._flush: Flush | None = None
        self._wake = asyncio.Event()
        self._stopped = False
        WAITING.set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """Units that are not stored yet."""
        return len(self._now) + len(self._held) + len(self._writing)

    @property
    def batches(self) -> int:
        """Batches that were sent, those refused for their data too."""
        return self._sender.number

    def accept(self, owner: AccountRef, message: OutboundMessage) -> asyncio.Future[Outcome]:
        """Stores a message to send. Raises `Unavailable` BACKEND_UNAVAILABLE while too much waits already."""
        self._admit(1)
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self._now.append(Entry((owner, message), done))
        self._wake.set()
        return done

    def write(self, owner: AccountRef, *rows: Row) -> asyncio.Future[Outcome]:
        """Stores rows of one account, all in one commit; answered after it. Raises as `accept`."""
        self._admit(1)
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self._now.append(Entry((owner, rows), done))
        self._wake.set()
        return done

    def post(self, owner: AccountRef, *rows: Row) -> None:
        """Stores rows that nobody waits for; never refuses.

        Statuses, receipts and events are held up to 100 ms, so that SENT and DELIVERED of one message become
        one update: rows that are written meanwhile overtake them. Other rows are stored with the next batch.
        """
        if self._stopped:
            return
        if all(row.__class__ in _HELD for row in rows):
            self._held.append(Entry((owner, rows)))
            if self._held_timer is None and not self._held_due:
                self._held_timer = self._loop.call_later(_HOLD_SECONDS, self._release_held)
        else:
            self._now.append(Entry((owner, rows)))
            self._wake.set()

    async def flush(self, give_back: Mapping[int, int] | None = None) -> None:
        """Stores everything that waits, held rows too; returns after the commit.

        `give_back` (shard -> epoch) are released in the very commit that stores their last rows. Rows for
        them that come later are refused.
        """
        if self._stopped:
            raise stopped()
        if self._flush is None:
            self._flush = Flush(self._loop.create_future())
        self._flush.give_back.update(give_back or {})
        self._wake.set()
        await asyncio.shield(self._flush.done)

    async def run(self, on_commit: Callable[[Stored], None]) -> None:
        """Writes until it is cancelled; `flush` first.

        `on_commit` is called synchronously after each commit with the outbound messages that it stored, in
        order: send them there.

        Raises `IncarnationExpired`, or what is wrong with the database for good; all who wait are then told
        `Unavailable`, as are later callers.
        """
        flush: Flush | None = None
        self._on_commit = on_commit
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                start = self._loop.time()
                flush, self._flush = self._flush, None
                await self._write_waiting(flush)
                left = start + self._gap - self._loop.time()
                if left > 0 and self._wake.is_set() and self._flush is None and len(self._now) < _MAX_BATCH:
                    await asyncio.sleep(left)  # somebody came during the commit: let the batch fill
        finally:
            self._stop(flush)

    async def _write_waiting(self, flush: Flush | None) -> None:
        self._writing, self._now = self._now, []
        held: list[Entry] = []
        if flush is not None or self._held_due:
            held, self._held, self._held_due = self._held, [], False
            if self._held_timer is not None:
                self._held_timer.cancel()
                self._held_timer = None
        if flush is None:
            await self._write_all(self._writing)
            # Apart, since riding along would run more statements in each batch that somebody waits for
            self._writing = held
            await self._write_all(held)
        else:
            self._writing = held + self._writing  # what is held is older
            await self._write_all(self._writing, flush.give_back)
            if not flush.done.done():
                flush.done.set_result(None)
        self._writing = []

    async def _write_all(self, entries: list[Entry], give_back: Mapping[int, int] = _NOTHING) -> None:
        at = 0
        while at < len(entries):
            end = _end_of_batch(entries, at)
            await self._write(entries[at:end], give_back if end == len(entries) else _NOTHING)
            at = end
        if give_back and not entries:
            await self._write([], give_back)

    async def _write(self, entries: list[Entry], give_back: Mapping[int, int]) -> None:
        """Stores a batch, tells its callers. One that is refused for its data, or that Postgres cannot store
        in time, is halved down to the guilty unit.
        """
        units, began = [entry.unit for entry in entries], time.time_ns()
        try:
            answer = await self._send(units, give_back)
        except DataRefused as refusal:
            if len(entries) > 1:
                half = len(entries) // 2
                await self._write(entries[:half], _NOTHING)
                await self._write(entries[half:], give_back)
                return
            self._refuse(entries[0], refusal.error)
            if give_back:
                await self._write([], give_back)
            return
        if answer is None:
            for entry in entries:
                entry.settle(COMMITTED)
            stored = units
        else:
            stored = []
            for entry, outcome in zip(entries, outcomes(units, answer), strict=True):
                entry.settle(outcome)
                if outcome is COMMITTED:
                    stored.append(entry.unit)
        record_commit(began, self._sender.number, len(units), stored)
        committed = [unit for unit in stored if _is_message(unit)]
        try:
            if committed:
                self._on_commit(committed)
            self._after_commit()
        except Exception:  # it is stored: whoever fails to hear of it must not stop everybody's writes
            logger.exception("journal: what follows a commit failed", batch=self._sender.number)

    async def _send(self, units: Sequence[Unit], give_back: Mapping[int, int]) -> Answer | None:
        """Raises `DataRefused` also for a batch that takes too long: at once if it can be halved. A unit
        alone is tried again as long as it may be the database that is slow just now.
        """
        arguments, tries = _arguments(units), 0
        while True:
            try:
                return await self._sender.send(arguments, give_back)
            except TooSlow as slow:
                tries += 1
                logger.warning("journal: a batch takes too long", units=len(units), error=repr(slow.error))
                if len(units) > 1 or (units and tries >= _TRIES and await self._is_quick()):
                    raise DataRefused(slow.error) from slow

    async def _is_quick(self) -> bool:
        """Whether the database stores a batch of nothing in time: else it is not what is in one that takes
        long.
        """
        try:
            await self._sender.send(_arguments([]), _NOTHING)
        except TooSlow:
            return False
        return True

    def _refuse(self, entry: Entry, error: Exception) -> None:
        POISON.inc()
        owner, what = entry.unit
        rows = [what] if isinstance(what, OutboundMessage) else what
        logger.error(
            "journal: the database refuses rows",
            account_id=encode(Prefix.ACCOUNT, owner.uuid),
            rows=[row.__class__.__name__ for row in rows],
            told=entry.waiter is not None,
            error=str(error)[:_MAX_ERROR],
        )
        entry.settle(Poison(error))

    def _admit(self, units: int) -> None:
        if self._stopped:
            raise stopped()
        if self.waiting + units > self._bound:
            raise Unavailable("too many writes wait for the database", "BACKEND_UNAVAILABLE", retry_after=1.0)

    def _release_held(self) -> None:
        self._held_timer = None
        self._held_due = True
        self._wake.set()

    def _stop(self, flush: Flush | None) -> None:
        self._stopped = True
        self._sender.close()
        if self._held_timer is not None:
            self._held_timer.cancel()
        for entry in self._writing + self._now:
            entry.abandon()
        for waiting in (flush, self._flush):
            if waiting is not None:
                abandon(waiting.done)


def _ignore(_stored: Stored) -> None:
    pass


def _is_message(unit: Unit) -> TypeGuard[tuple[AccountRef, OutboundMessage]]:
    return isinstance(unit[1], OutboundMessage)


def _arguments(units: Sequence[Unit]) -> list[list[Any]]:
    """Raises `DataRefused` for rows that make no columns."""
    try:
        return Columns(units).arguments()
    except Exception as error:
        raise DataRefused(error) from error


def _end_of_batch(entries: Sequence[Entry], start: int) -> int:
    """Where a batch ends that begins at `start`: it has one unit at least."""
    left, end = _MAX_BATCH_BYTES, min(start + _MAX_BATCH, len(entries))
    for at in range(start, end):
        left -= size_of(entries[at].unit)
        if left < 0:
            return max(at, start + 1)
    return end


_MAX_BATCH = 500  # units
_MAX_BATCH_BYTES = 4 * 1024 * 1024  # by `size_of`: what Postgres stores well within the timeout
_TRIES = 5  # of a unit alone, before the database is asked whether it is quick with others
_MAX_ERROR = 500
_HOLD_SECONDS = 0.1
_HELD = frozenset({StatusChange, Event, ReceiptPart, PersonIdentity})
