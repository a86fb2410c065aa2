"""Sends batches to Postgres, one after the other, each until its outcome is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
import structlog
from asyncpg.prepared_stmt import PreparedStatement

from mesh_session_node.journal.answer import Answer
from mesh_session_node.journal.batch import COLUMNS
from mesh_session_node.journal.outcomes import IncarnationExpired
from mesh_session_node.journal.telemetry import RESENT

logger = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class DataRefused(Exception):
    """Postgres will never take this batch, because of what is in it; nothing of it was stored."""

    error: Exception


@dataclass(slots=True, eq=False)
class TooSlow(Exception):
    """Postgres did not store this batch in the time that it has, and never will under its number; nothing of
    it was stored. The database itself answers.
    """

    error: Exception


class BatchSender:
    """The journal's connection and the numbers of its batches. One task uses it."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], incarnation: str) -> None:
        self.number = 0  # of the last batch that is settled
        self._connect = connect
        self._incarnation = incarnation
        self._connection: asyncpg.Connection | None = None
        self._statement: PreparedStatement[Any] | None = None

    async def send(self, arguments: list[list[Any]], give_back: Mapping[int, int]) -> Answer | None:
        """Stores a batch; None is plain success.

        A lost connection leaves the outcome open: the same number is sent again, until Postgres is back, and
        answered as the first time if that one landed after all. After a timeout the number is taken instead,
        which tells whether it landed; if it did not, it never will. Raises `DataRefused`, `TooSlow`,
        `IncarnationExpired`, and asyncpg's errors that sending again can never cure.
        """
        number, pause = self.number + 1, _FIRST_PAUSE
        slow: Exception | None = None
        while True:
            sent = False
            try:
                if slow is not None:
                    landed, answer = await self._take(number)
                    self.number = number
                    if not landed:
                        raise TooSlow(slow)
                    return _read(answer)
                statement = self._statement or await self._prepare()
                sent = True
                answer = await statement.fetchval(
                    self._incarnation,
                    number,
                    *arguments,
                    [*give_back],
                    [*give_back.values()],
                    timeout=_TIMEOUT,
                )
            except (
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
                OSError,
            ) as error:
                state = (error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""
                if state == "SM001":
                    raise IncarnationExpired(str(error)) from error
                if state[:2] in _REFUSED_DATA:
                    self.number = number
                    raise DataRefused(error) from error
                if state[:2] in _OUR_FAULT:
                    raise
                self.close()
                if sent and _ran_out_of_time(error):
                    slow = error
                RESENT.inc()
                if pause == _FIRST_PAUSE:
                    logger.warning("journal: outcome unknown, sending again", batch=number, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE)
            else:
                self.number = number
                return _read(answer)

    def close(self) -> None:
        """Ends the connection at once; the next `send` makes another."""
        if self._connection is not None:
            self._connection.terminate()
        self._connection = self._statement = None

    async def _take(self, number: int) -> tuple[bool, str | None]:
        """Whether the batch of this number landed, and its answer. If it did not, the number is used up: what
        is still under way of it, here or on a connection that was lost, writes nothing any more.
        """
        connection = self._connection = self._connection or await self._connect()
        await connection.execute(_TAKE, self._incarnation, number, _NEVER, timeout=_TIMEOUT)  # waits for it
        answer = await connection.fetchval(_ANSWER, self._incarnation, number, timeout=_TIMEOUT)
        return answer != _NEVER, answer

    async def _prepare(self) -> PreparedStatement[Any]:
        self._connection = self._connection or await self._connect()
        self._statement = await self._connection.prepare(_CALL)
        return self._statement


def _ran_out_of_time(error: BaseException) -> bool:
    """Whether it was the statement's time-out; the server's ends the connection, and then is its cause."""
    told = {getattr(one, "sqlstate", None) for one in (error, error.__cause__)}
    return isinstance(error, TimeoutError) or not told.isdisjoint(_TIMEOUTS)


def _read(answer: str | None) -> Answer | None:
    return None if answer is None else msgspec.json.decode(answer, type=Answer, strict=False)


_TIMEOUT = 5.0
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0
_ARGUMENTS = [
    ("me", "text"),
    ("number", "bigint"),
    *((column.name, column.type) for column in COLUMNS),
    ("give_back", "smallint[]"),
    ("give_back_epoch", "bigint[]"),
]
_CALL = "SELECT journal_write({})".format(
    ", ".join(f"{name} => ${at}::{type_}" for at, (name, type_) in enumerate(_ARGUMENTS, 1))
)
_TAKE = "INSERT INTO node_journal (incarnation, batch, answer) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_ANSWER = "SELECT answer FROM node_journal WHERE incarnation = $1 AND batch = $2"
_NEVER = '"never"'  # the answer of a number that was taken: no batch has it
# The transaction or the statement took too long; waiting for a lock (55P03) has nothing to do with the rows.
_TIMEOUTS = frozenset({"25P04", "57014"})
# SQLSTATE classes. Cardinality, data, integrity, program limits: the rows themselves, whenever they are sent.
_REFUSED_DATA = frozenset({"21", "22", "23", "54"})
# Feature not supported, syntax or a missing function, PL/pgSQL: sending it again would never help.
_OUR_FAULT = frozenset({"0A", "42", "P0"})
