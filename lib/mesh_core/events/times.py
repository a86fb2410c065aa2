"""Where in the order of events a time is, though they have no index by time."""

from __future__ import annotations

from datetime import datetime, timedelta

from mesh_core.database.pool import AnyConnection

SLACK = timedelta(minutes=10)
"""Events may stand before others that were committed so much earlier: transactions overlap, and clocks are
set.
"""


async def place_before(connection: AnyConnection, moment: datetime) -> tuple[int, int]:
    """A position, `xid` and `seq`, before all events that were committed at `moment` or after it.

    Halves the order of events, with one look into the index each time.
    """
    [bounds] = await connection.fetch(_BOUNDS)
    low, high = bounds["low"], bounds["high"]
    while high - low > 1:
        middle = (low + high) // 2
        found = await connection.fetchrow(FIRST_FROM, middle)
        if found is None or found["commit_time"] + SLACK >= moment:
            high = middle
        else:
            low = found["position"]
    return low, 0


_BOUNDS = "SELECT xid AS low, pg_snapshot_xmin(pg_current_snapshot()) AS high FROM event_horizon"
FIRST_FROM = """SELECT xid AS position, commit_time FROM event WHERE (xid, seq) >= ($1::xid8, 0)
  ORDER BY xid, seq LIMIT 1"""
