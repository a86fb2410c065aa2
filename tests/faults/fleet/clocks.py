"""Clocks that a test sets: the one that Postgres' functions read, and the wall clock of processes."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from tests.support.tools import missing_tool

# Shadows the built-in functions: `public` comes first in the path, and stays the schema for new partitions.
# Columns' defaults were bound to the built-in ones when the tables were made.
STEPPED_CLOCK = r"""
CREATE TABLE clock_step (step interval NOT NULL);
INSERT INTO clock_step VALUES ('0');
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
  AS 'SELECT pg_catalog.clock_timestamp() + step FROM public.clock_step';
CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE
  AS 'SELECT pg_catalog.now() + step FROM public.clock_step';
DO $$
DECLARE one record;
BEGIN
  FOR one IN
    SELECT attrelid::regclass AS relation, attname, pg_get_expr(adbin, adrelid) AS made
      FROM pg_attrdef JOIN pg_attribute ON (attrelid, attnum) = (adrelid, adnum)
      WHERE pg_get_expr(adbin, adrelid) ~ '^(now|clock_timestamp)\(\)$'
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER %I SET DEFAULT public.%s', one.relation, one.attname, one.made);
  END LOOP;
END $$;
"""
LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


async def let_postgres_be_stepped(database: asyncpg.Pool) -> None:
    """From the next connection on, functions of this database read a clock that `step_postgres` sets."""
    await database.execute(STEPPED_CLOCK)
    name = await database.fetchval("SELECT current_database()")
    await database.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")


async def step_postgres(database: asyncpg.Pool, seconds: int) -> None:
    """Let the clock be so far off from now on."""
    await database.execute("UPDATE clock_step SET step = make_interval(secs => $1)", seconds)


class WallClock:
    """The wall clock of processes that run with `environment`; their other clocks are as they are."""

    def __init__(self, folder: Path) -> None:
        if not LIBRARY.exists():
            missing_tool(f"{LIBRARY} is not there (package faketime): wall clocks cannot be stepped")
        self._place = folder / "wall-clock"
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._place),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
            # Else waits with a deadline by the monotonic clock, which is left alone here, end at once:
            # Python's threads would then ask each other for the interpreter without a pause.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def step(self, seconds: int) -> None:
        """Let the clock be so far off, a second from now."""
        made = self._place.with_suffix(".new")
        made.write_text(f"{seconds:+d}")
        made.replace(self._place)
