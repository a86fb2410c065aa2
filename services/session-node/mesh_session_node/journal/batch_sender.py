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

from mesh_session_node.journal.batch import COLUMNS, Answer
from mesh_session_node.journal.outcomes import IncarnationExpired
from mesh_session_node.journal.telemetry import RESENT

logger = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class DataRefused(Exception):
    """Postgres will never take this batch, because of what is in it; nothing of it was stored."""

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

        A lost connection or a timeout leaves the outcome open: the same number is sent again, until Postgres
        is back, and answered as the first time if that one landed after all. Raises `DataRefused`,
        `IncarnationExpired`, and asyncpg's errors that sending again can never cure.
        """
        number, pause = self.number + 1, _FIRST_PAUSE
        while True:
            try:
                statement = self._statement or await self._prepare()
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
                RESENT.inc()
                if pause == _FIRST_PAUSE:
                    logger.warning("journal: outcome unknown, sending again", batch=number, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE)
            else:
                self.number = number
                return None if answer is None else msgspec.json.decode(answer, type=Answer, strict=False)

    def close(self) -> None:
        """Ends the connection at once; the next `send` makes another."""
        if self._connection is not None:
            self._connection.terminate()
        self._connection = self._statement = None

    async def _prepare(self) -> PreparedStatement[Any]:
        self._connection = await self._connect()
        self._statement = await self._connection.prepare(_CALL)
        return self._statement


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
# SQLSTATE classes. Cardinality, data, integrity, program limits: the rows themselves, whenever they are sent.
_REFUSED_DATA = frozenset({"21", "22", "23", "54"})
# Feature not supported, syntax or a missing function, PL/pgSQL: sending it again would never help.
_OUR_FAULT = frozenset({"0A", "42", "P0"})
