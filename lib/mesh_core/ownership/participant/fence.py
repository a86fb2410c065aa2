"""Ownership's half in Postgres: beats, takeovers, releases. Its functions are in the migrations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, TypeAlias

import asyncpg

from mesh_core.database.pool import AnyConnection
from mesh_core.database.unavailable import DATABASE_ERRORS, UNAVAILABLE
from mesh_core.errors import FailedPrecondition, Unavailable
from mesh_core.etcd import boottime
from mesh_core.ownership.participant.keeper import Timings

Connect: TypeAlias = "Callable[[], Awaitable[asyncpg.Connection[Any]]]"
"""Opens a direct connection (not through a transaction pooler)."""

EXPIRED_SQLSTATE = "SM001"


class FenceUnavailable(Unavailable):
    """Postgres did not answer; whether the call took effect is unknown."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"Postgres: {detail}", "BACKEND_UNAVAILABLE", retry_after=1.0)


class IncarnationExpired(FailedPrecondition):
    """Another node judged this process dead: it must hand everything off, and start again as a new one."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, "NOT_OWNER")


class TakeOutcome(Enum):
    """TAKEN: the fence is this incarnation's. WAIT: another one that lives holds it. STALE: Postgres has seen
    a later claim number.
    """

    TAKEN = "taken"
    WAIT = "wait"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Take:
    """The answer for one shard. After WAIT, `holder` (an incarnation), `node` and `address` are the node that
    still holds it.
    """

    shard: int
    outcome: TakeOutcome
    epoch: int
    holder: str
    node: str
    address: str


class FenceBeats:
    """An incarnation's beats. They have a connection of their own, so that no takeover delays them."""

    def __init__(self, connect: Connect, incarnation: str, timings: Timings) -> None:
        self._incarnation = incarnation
        self._link = _Link(connect, timings.attempt)

    async def beat(self) -> tuple[float, dict[int, int]]:
        """Returns when the beat was sent (boottime), and the held shards (with epochs) others wait for.

        Raises `FenceUnavailable`, and `IncarnationExpired` once another node has judged this one dead.
        """
        sent = boottime()
        rows = await self._link.fetch("SELECT shard, epoch FROM beat($1)", self._incarnation)
        return sent, {row["shard"]: row["epoch"] for row in rows}

    async def close(self) -> None:
        await self._link.close()


class Fence:
    """The fence of one incarnation.

    Calls raise `FenceUnavailable`, or `IncarnationExpired` once another node has judged this incarnation
    dead.
    """

    def __init__(self, connect: Connect, incarnation: str, timings: Timings) -> None:
        self._incarnation = incarnation
        self._timings = timings
        self._link = _Link(connect, 3 * timings.attempt)

    async def register(self, node: str, address: str) -> None:
        """Makes this incarnation known, as of its first beat."""
        await self._link.fetch(
            "INSERT INTO node_incarnation (id, node, address) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            self._incarnation,
            node,
            address,
        )

    async def take(self, claims: Mapping[int, int], dead: Collection[str]) -> list[Take]:
        """Asks for the shards of `claims` (shard -> claim number); `dead` incarnations were reaped."""
        rows = await self._link.fetch(
            "SELECT shard, epoch, outcome, holder, node, address FROM take_shards($1, $2, $3, $4, $5, $6)",
            list(claims),
            list(claims.values()),
            self._incarnation,
            list(dead),
            timedelta(seconds=self._timings.ttl),
            timedelta(seconds=self._timings.beat),
        )
        return [
            Take(shard, TakeOutcome(outcome), epoch, holder, node or "", address or "")
            for shard, epoch, outcome, holder, node, address in rows
        ]

    async def release(self, epochs: Mapping[int, int]) -> None:
        """Gives back what is held at these epochs; anything else is left alone."""
        await self._link.fetch(
            "SELECT release_shards($1, $2, $3)", list(epochs), list(epochs.values()), self._incarnation
        )

    async def any_held(self) -> bool:
        """Whether some node that lives holds any shard."""
        [row] = await self._link.fetch(_ANY_HELD, timedelta(seconds=self._timings.ttl))
        return bool(row["held"])

    async def close(self) -> None:
        await self._link.close()


async def forget_incarnations(connection: AnyConnection) -> int:
    """Deletes those that ended over a day ago and that no shard names any more; returns how many.

    One that is not there is refused as an expired one is.
    """
    return int((await connection.execute(_FORGET)).split()[-1])


class _Link:
    """A connection: opened when needed, thrown away after any failure, used by one caller at a time."""

    def __init__(self, connect: Connect, timeout: float) -> None:
        self._connect = connect
        self._timeout = timeout
        self._connection: asyncpg.Connection[Any] | None = None
        self._turn = asyncio.Lock()

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        async with self._turn:
            try:
                connection = self._connection or await self._open()
                return await connection.fetch(sql, *args, timeout=self._timeout)
            except DATABASE_ERRORS as error:
                self._drop()
                raise _translated(error) from error
            except BaseException:  # a cancelled call leaves the connection in the middle of something
                self._drop()
                raise

    async def close(self) -> None:
        async with self._turn:
            if self._connection is not None:
                await self._connection.close(timeout=self._timeout)

    async def _open(self) -> asyncpg.Connection[Any]:
        async with asyncio.timeout(self._timeout):
            self._connection = await self._connect()
        # Nothing of ours may hold a lock for long, not even frozen in the middle of a call.
        await self._connection.execute(f"SET transaction_timeout = '{self._timeout}s'", timeout=self._timeout)
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _translated(error: Exception) -> Exception:
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate == EXPIRED_SQLSTATE:
        return IncarnationExpired(str(error))
    if isinstance(error, UNAVAILABLE):
        return FenceUnavailable(f"{type(error).__name__} {error}".strip())
    return error


_FORGET = """
DELETE FROM node_incarnation n WHERE n.beat_at < clock_timestamp() - interval '1 day'
  AND NOT EXISTS (SELECT FROM shard_fence f WHERE f.holder = n.id)
"""
_ANY_HELD = """
SELECT EXISTS (
  SELECT FROM shard_fence f JOIN node_incarnation n ON n.id = f.holder
  WHERE NOT f.released AND NOT n.expired AND n.beat_at > clock_timestamp() - $1::interval) AS held
"""
