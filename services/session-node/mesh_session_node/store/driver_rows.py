"""Rows of drivers' states: sealed in Postgres, opened here.

A node that takes many accounts over reads the rows of each of them, and what a query costs here and in
Postgres is mostly its own. So what is asked for while others are being read is read together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from asyncpg import Pool
from asyncpg.pgproto.pgproto import UUID

from mesh_core.sealing import Sealer

AT_ONCE = 4
"""Queries under way at a time."""
NAMES_TOGETHER = 64
"""Keys and prefixes in one query, but for those that are asked for together."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Rows of one account that somebody waits for: by key, sealed."""

    account: UUID
    keys: Collection[str]
    prefixes: Collection[str]
    found: asyncio.Future[dict[str, bytes]]

    @property
    def names(self) -> int:
        return len(self.keys) + len(self.prefixes)


class DriverRowStore:
    """Reads rows. Raises what `mesh_core.database.UNAVAILABLE` names, and `CannotUnseal`."""

    def __init__(self, pool: Pool, sealer: Sealer) -> None:
        self._pool = pool
        self._sealer = sealer
        self._waiting: deque[_Asked] = deque()
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(
        self, tenant: UUID, account: UUID, keys: Collection[str], prefixes: Collection[str]
    ) -> dict[str, bytes]:
        """The rows of these keys that exist, and all whose keys begin with one of `prefixes`."""
        found: asyncio.Future[dict[str, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(account, keys, prefixes, found))
        if self._under_way < AT_ONCE:
            self._under_way += 1
            task = asyncio.create_task(self._read_waiting(), name="read drivers' rows")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return {
            key: await self._sealer.open(tenant, value, binding(account, key))
            for key, value in (await found).items()
        }

    async def _read_waiting(self) -> None:
        try:
            while together := self._take():
                await self._read(together)
        finally:
            self._under_way -= 1

    async def _read(self, together: Sequence[_Asked]) -> None:
        try:
            rows = await self._fetch(together)
        except asyncio.CancelledError:
            for asked in together:
                asked.found.cancel()
            raise
        except Exception as error:  # theirs, who wait for it
            for asked in together:
                if not asked.found.done():
                    asked.found.set_exception(error)
            return
        for asked, found in zip(together, rows, strict=True):
            if not asked.found.done():
                asked.found.set_result(found)

    def _take(self) -> list[_Asked]:
        """What is read next, in the order in which it was asked for; none: nobody waits."""
        together: list[_Asked] = []
        names = 0
        while self._waiting and (not together or names + self._waiting[0].names <= NAMES_TOGETHER):
            asked = self._waiting.popleft()
            if not asked.found.done():  # else whoever waited for it has gone
                together.append(asked)
                names += asked.names
        return together

    async def _fetch(self, together: Sequence[_Asked]) -> list[dict[str, bytes]]:
        keys = [(number, asked.account, key) for number, asked in enumerate(together) for key in asked.keys]
        prefixes = [
            (number, asked.account, prefix)
            for number, asked in enumerate(together)
            for prefix in asked.prefixes
        ]
        rows: list[dict[str, bytes]] = [{} for _ in together]
        columns = [list(column) for column in (*_columns(keys), *_columns(prefixes))]
        for number, key, value in await self._pool.fetch(_ROWS, *columns):
            rows[number][key] = value
        return rows


def _columns(asked: Sequence[tuple[int, UUID, str]]) -> Sequence[Sequence[object]]:
    return list(zip(*asked, strict=True)) or [(), (), ()]


def binding(account: UUID, key: str) -> bytes:
    """What a sealed row belongs to: one that was copied to another row does not open."""
    return account.bytes + key.encode()


# Keys are ordered by their bytes: those with a prefix follow it, up to it with the last character there is.
# OFFSET 0 keeps Postgres from joining the whole table: each account's rows are looked up by its key.
_ROWS = """
SELECT asked.number, rows.key, rows.value
  FROM unnest($1::integer[], $2::uuid[], $3::text[]) AS asked(number, account, key)
  CROSS JOIN LATERAL (
    SELECT key, value FROM driver_row WHERE account = asked.account AND key = asked.key OFFSET 0
  ) AS rows
UNION ALL
SELECT begun.number, rows.key, rows.value
  FROM unnest($4::integer[], $5::uuid[], $6::text[]) AS begun(number, account, prefix)
  CROSS JOIN LATERAL (
    SELECT key, value FROM driver_row
      WHERE account = begun.account AND key >= begun.prefix AND key < begun.prefix || chr(1114111) OFFSET 0
  ) AS rows
"""
