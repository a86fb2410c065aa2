"""What waits: gauges, and an alarm when the fan-out stands still though there are events for it."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import structlog

from mesh_core.metrics import gauge
from sessionmesh.v1 import webhook_pb2

logger = structlog.get_logger(__name__)

PENDING = gauge(
    "mesh_webhook_pending_deliveries",
    "Deliveries that are not done, at most 10,000.",
    answers="How long is the queue of webhooks?",
)
OWED = gauge(
    "mesh_webhook_owed_events",
    "Events whose deliveries are still made in turns, at most 10,000.",
    answers="Does one tenant have more events than its share?",
)
OLDEST_DUE = gauge(
    "mesh_webhook_oldest_due_seconds",
    "How long the delivery that is due longest has been due.",
    answers="How late are webhooks?",
)
POSITION = gauge(
    "mesh_webhook_fan_out_position_transactions",
    "The number of the transaction of the event that the fan-out handled last.",
    answers="Does the position move?",
)
STANDSTILL = gauge(
    "mesh_webhook_fan_out_standstill_seconds",
    "How long the fan-out has not moved though events wait.",
    answers="Does the position move?",
)

ALARM_SECONDS = 30.0
"""A standstill for longer is logged as an alarm, again each time it has lasted so long."""


class Standstill:
    """Tells how long the position has not moved though there are events behind it."""

    def __init__(self) -> None:
        self._position: object = None
        self._since = 0.0
        self._alarmed = 0

    def seconds(self, position: object, *, waiting: bool, now: float) -> float:
        """After a look at the position at the monotonic time `now`."""
        if position != self._position or not waiting:
            self._position, self._since, self._alarmed = position, now, 0
        return now - self._since

    def alarm(self, seconds: float) -> bool:
        """Whether to say so now: once for each `ALARM_SECONDS`."""
        due = int(seconds / ALARM_SECONDS)
        self._alarmed, said = max(due, self._alarmed), self._alarmed
        return due > said


async def measure(pool: asyncpg.Pool) -> None:
    """Refreshes the gauges every few seconds until it is cancelled."""
    standstill = Standstill()
    while True:
        try:
            await look(pool, standstill)
        except Exception:  # a gauge is worth no process
            logger.warning("backlog cannot be measured", exc_info=True)
        await asyncio.sleep(_MEASURE_SECONDS)


async def look(pool: asyncpg.Pool, standstill: Standstill) -> None:
    """Refreshes the gauges once, and logs an alarm when one is due."""
    [row] = await pool.fetch(_BACKLOG)
    PENDING.set(row["pending"])
    OWED.set(row["owed"])
    OLDEST_DUE.set(row["overdue"].total_seconds())
    position = (row["generation"], row["xid"], row["seq"])
    POSITION.set(int(row["xid"]))
    seconds = standstill.seconds(position, waiting=row["waiting"], now=time.monotonic())
    STANDSTILL.set(seconds)
    if standstill.alarm(seconds):
        logger.error("ALARM: the fan-out stands still though events wait", seconds=round(seconds))


_MEASURE_SECONDS = 5.0
_BACKLOG = f"""SELECT r.generation, r.xid, r.seq,
  (SELECT true FROM event v WHERE (v.xid, v.seq) > (r.xid, r.seq) ORDER BY v.xid, v.seq LIMIT 1) IS NOT NULL
    AS waiting,
  (SELECT count(*) FROM (SELECT FROM webhook_delivery
    WHERE state = {webhook_pb2.DELIVERY_STATE_PENDING} LIMIT 10000) p) AS pending,
  (SELECT count(*) FROM (SELECT FROM webhook_owed LIMIT 10000) o) AS owed,
  coalesce((SELECT greatest(now() - min(q.due_at), interval '0') FROM webhook_queue q
    WHERE q.awake AND isfinite(q.due_at)), interval '0') AS overdue
  FROM webhook_reader r WHERE r.name = 'fan-out'"""  # noqa: S608 - constants
