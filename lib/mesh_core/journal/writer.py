"""Group commit: one writer a node gathers what all its callers write, and stores it batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
import structlog
from asyncpg.prepared_stmt import PreparedStatement

from mesh_core.errors import Unavailable
from mesh_core.journal.batch import ARGUMENTS, Answer, Columns, Unit, outcomes
from mesh_core.journal.outcomes import COMMITTED, REFUSED, IncarnationExpired, Outcome, Poison
from mesh_core.journal.rows import AccountRef, Event, MemberReceipt, OutboundMessage, Row, StatusChange

logger = structlog.get_logger(__name__)

Sent = list[tuple[AccountRef, OutboundMessage]]


@dataclass(slots=True)
class JournalFigures:
    """What the journal has done since it was made."""

    batches: int = 0
    units: int = 0
    resent: int = 0
    commit_seconds: float = 0.0


class Journal:
    """The writer. Call it from one event loop; only `run`, in a task of its own, touches the connection.

    `on_commit` is called synchronously after each commit with the outbound messages that it stored, in order: send them
    there. `after_commit` is called after each batch that may have stored events.

    A lone caller is written at once. When others came during a commit, batches start at least `gap` seconds apart: that
    fills them, and costs a third less for each message. While Postgres is away, callers wait; up to `bound` units.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        incarnation: str,
        on_commit: Callable[[Sent], None],
        *,
        after_commit: Callable[[], None] = lambda: None,
        gap: float = 0.004,
        bound: int = 20_000,
    ) -> None:
        self.figures = JournalFigures()
        self._connect = connect
        self._incarnation = incarnation
        self._on_commit = on_commit
        self._after_commit = after_commit
        self._gap = gap
        self._bound = bound
        self._loop = asyncio.get_running_loop()
        self._now: list[_Entry] = []  # in the next batch
        self._late: list[_Entry] = []  # nobody waits for these
        self._late_timer: asyncio.TimerHandle | None = None
        self._late_due = False
        self._writing = 0  # units in the batch under way
        self._flush: _Flush | None = None
        self._wake = asyncio.Event()
        self._closed = False
        self._number = 0  # of the last batch known to be settled
        self._connection: asyncpg.Connection | None = None
        self._statement: PreparedStatement[Any] | None = None

    @property
    def waiting(self) -> int:
        """Units that are not stored yet."""
        return len(self._now) + len(self._late) + self._writing

    def accept(self, owner: AccountRef, message: OutboundMessage) -> asyncio.Future[Outcome]:
        """Stores a message to send. Raises `Unavailable` BACKEND_UNAVAILABLE while too much waits already."""
        self._admit(1)
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self._now.append(((owner, message), done, None))
        self._wake.set()
        return done

    def accept_many(
        self, messages: Sequence[tuple[AccountRef, OutboundMessage]]
    ) -> asyncio.Future[list[Outcome]]:
        """Stores messages of a frame, each by itself; the outcomes are in their order."""
        self._admit(len(messages))
        done: asyncio.Future[list[Outcome]] = self._loop.create_future()
        if not messages:
            done.set_result([])
            return done
        frame = _Frame(done, len(messages))
        self._now.extend([(unit, frame, at) for at, unit in enumerate(messages)])
        self._wake.set()
        return done

    def write(self, owner: AccountRef, *rows: Row) -> asyncio.Future[Outcome]:
        """Stores rows of one account, all in one commit; answered after it. Raises as `accept` does."""
        self._admit(1)
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self._now.append(((owner, rows), done, None))
        self._wake.set()
        return done

    def post(self, owner: AccountRef, *rows: Row) -> None:
        """Stores rows that nobody waits for; never refuses.

        Statuses, receipts and events are held up to 100 ms, so that SENT and DELIVERED of one message become one update:
        rows that are written meanwhile overtake them. Other rows are stored with the next batch.
        """
        if all(row.__class__ in _HELD for row in rows):
            self._late.append(((owner, rows), None, None))
            if self._late_timer is None:
                self._late_timer = self._loop.call_later(_HOLD, self._release_late)
        else:
            self._now.append(((owner, rows), None, None))
            self._wake.set()

    async def flush(self, give_back: Mapping[int, int] | None = None) -> None:
        """Stores everything that waits, held rows too; returns after the commit.

        `give_back` (shard -> epoch) are released in the very commit that stores their last rows. Rows for them that come
        later are refused.
        """
        if self._closed:
            raise _closed()
        if self._flush is None:
            self._flush = _Flush(self._loop.create_future())
        self._flush.give_back.update(give_back or {})
        self._wake.set()
        await asyncio.shield(self._flush.done)

    async def run(self) -> None:
        """Writes until it is cancelled; `flush` first. Raises `IncarnationExpired`, or what is wrong with the database."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                start = self._loop.time()
                await self._write_waiting()
                left = start + self._gap - self._loop.time()
                if left > 0 and self._wake.is_set() and self._flush is None and len(self._now) < _MOST:
                    await asyncio.sleep(left)  # somebody came during the commit: let the batch fill
        finally:
            self._close()

    async def _write_waiting(self) -> None:
        flush, self._flush = self._flush, None
        try:
            if flush is not None or self._late_due:
                self._late_due = False
                if self._late_timer is not None:
                    self._late_timer.cancel()
                    self._late_timer = None
                late, self._late = self._late, []
            else:
                late = []
            entries, self._now = self._now, []
            if flush is not None:
                # One batch where they fit: a held row precedes what was written after it
                entries, late = late + entries, []
            give_back = flush.give_back if flush is not None else {}
            for part in (entries, late):
                for at in range(0, len(part), _MOST):
                    last = flush is not None and at + _MOST >= len(part)
                    self._writing = len(entries) + len(late)
                    await self._write(part[at : at + _MOST], give_back if last else {})
            if flush is not None and not entries and give_back:
                await self._write([], give_back)
        except BaseException as error:
            if flush is not None and not flush.done.done():
                flush.done.set_exception(_closed() if isinstance(error, asyncio.CancelledError) else error)
                flush.done.exception()  # its waiter may be gone
            raise
        finally:
            self._writing = 0
        if flush is not None and not flush.done.done():
            flush.done.set_result(None)

    async def _write(self, entries: list[_Entry], give_back: Mapping[int, int]) -> None:
        """Stores a batch and tells its callers. One that is refused for its data is halved until the guilty unit is alone."""
        try:
            units = [unit for unit, _, _ in entries]
            answer = await self._send(Columns(units).arguments(), give_back)
        except _DataRefused as refusal:
            if len(entries) > 1:
                half = len(entries) // 2
                await self._write(entries[:half], {})
                await self._write(entries[half:], give_back)
                return
            _settle(entries, [Poison(refusal.error)])
            if give_back:
                await self._write([], give_back)
            return
        except BaseException as error:
            expired = isinstance(error, IncarnationExpired)
            for _, waiter, at in entries:
                _tell(waiter, at, REFUSED if expired else None)
            raise
        self.figures.units += len(entries)
        if answer is None:
            for _, waiter, at in entries:
                _tell(waiter, at, COMMITTED)
            committed = [unit for unit in units if isinstance(unit[1], OutboundMessage)]
        else:
            results = outcomes(units, answer)
            _settle(entries, results)
            committed = [
                unit
                for unit, outcome in zip(units, results, strict=True)
                if isinstance(unit[1], OutboundMessage) and outcome is COMMITTED
            ]
        if committed:
            self._on_commit(committed)  # type: ignore[arg-type]  # narrowed above, unit by unit
        self._after_commit()

    async def _send(self, arguments: list[list[Any]], give_back: Mapping[int, int]) -> Answer | None:
        """Calls `journal_write` until its outcome is known. The same number again is answered, not repeated."""
        number, start = self._number + 1, self._loop.time()
        while True:
            try:
                if self._statement is None:
                    self._connection = await self._connect()
                    self._statement = await self._connection.prepare(_CALL)
                answer = await self._statement.fetchval(
                    self._incarnation, number, *arguments, [*give_back], [*give_back.values()], timeout=_TIMEOUT
                )
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
                state = error.sqlstate if isinstance(error, asyncpg.PostgresError) else ""
                if state == "SM001":
                    raise IncarnationExpired(str(error)) from error
                if state[:2] in _REFUSED_DATA:
                    self._number = number
                    raise _DataRefused(error) from error
                if state[:2] in _OUR_FAULT:
                    raise
                self._drop_connection()
                self.figures.resent += 1
                logger.warning("journal: Postgres is away, the batch waits", error=repr(error), batch=number)
                await asyncio.sleep(_RETRY)
            else:
                self._number = number
                self.figures.batches += 1
                self.figures.commit_seconds += self._loop.time() - start
                return None if answer is None else msgspec.json.decode(answer, type=Answer, strict=False)

    def _admit(self, units: int) -> None:
        if self._closed:
            raise _closed()
        if self.waiting + units > self._bound:
            raise Unavailable("too many writes wait for the database", "BACKEND_UNAVAILABLE", retry_after=1.0)

    def _release_late(self) -> None:
        self._late_timer = None
        self._late_due = True
        self._wake.set()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = self._statement = None

    def _close(self) -> None:
        self._closed = True
        self._drop_connection()
        if self._late_timer is not None:
            self._late_timer.cancel()
        for _, waiter, at in self._now:
            _tell(waiter, at, None)
        if self._flush is not None and not self._flush.done.done():
            self._flush.done.set_exception(_closed())
            self._flush.done.exception()


class _Frame:
    """The outcomes of a frame's messages, which may come from several batches."""

    __slots__ = ("_done", "_left", "_outcomes")

    def __init__(self, done: asyncio.Future[list[Outcome]], size: int) -> None:
        self._done = done
        self._outcomes: list[Outcome] = [COMMITTED] * size
        self._left = size

    def settle(self, at: int, outcome: Outcome) -> None:
        self._outcomes[at] = outcome
        self._left -= 1
        if self._left == 0 and not self._done.done():
            self._done.set_result(self._outcomes)

    def fail(self, error: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()


@dataclass(slots=True)
class _Flush:
    done: asyncio.Future[None]
    give_back: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _DataRefused(Exception):  # noqa: N818
    error: Exception


_Entry = tuple[Unit, "asyncio.Future[Outcome] | _Frame | None", int | None]
"""A unit, who waits for it, and which of a frame's messages it is."""


def _settle(entries: list[_Entry], results: Sequence[Outcome]) -> None:
    for (unit, waiter, at), outcome in zip(entries, results, strict=True):
        if waiter is None and isinstance(outcome, Poison):
            logger.error("journal: the database refuses a row", account=str(unit[0].uuid), error=str(outcome.error))
        _tell(waiter, at, outcome)


def _tell(waiter: asyncio.Future[Outcome] | _Frame | None, at: int | None, outcome: Outcome | None) -> None:
    """None: the journal ends without knowing."""
    if waiter is None:
        return
    if at is not None:
        frame: Any = waiter
        if outcome is None:
            frame.fail(_closed())
        else:
            frame.settle(at, outcome)
        return
    future: Any = waiter
    if future.done():  # its caller has given up
        return
    if outcome is None:
        future.set_exception(_closed())
        future.exception()  # read once, so that one that nobody awaits is not reported
    else:
        future.set_result(outcome)


def _closed() -> Unavailable:
    return Unavailable("this node has stopped writing", "BACKEND_UNAVAILABLE", retry_after=1.0)


_MOST = 500  # units in a batch
_HOLD = 0.1
_TIMEOUT = 5.0
_RETRY = 0.05
_HELD = frozenset({StatusChange, Event, MemberReceipt})
_CALL = f"SELECT journal_write({', '.join(f'${n}' for n in range(1, ARGUMENTS + 5))})"
# SQLSTATE classes. Cardinality, data, integrity, program limits: the rows themselves, whenever they are sent.
_REFUSED_DATA = frozenset({"21", "22", "23", "54"})
# Feature not supported, syntax or a missing function, PL/pgSQL: sending it again would never help.
_OUR_FAULT = frozenset({"0A", "42", "P0"})
