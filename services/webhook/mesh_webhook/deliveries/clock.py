"""Due times are of the database's clock, which may be set back: nothing waits for it to catch up.

The latest time that was seen is stored. When the clock reads less, what is due by the former time is made due
as if it had been scheduled now: a first attempt at once, a retry after its whole wait at most, and a claim
lapses after a lease.
"""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_webhook.deliveries.retries import JITTER, MAX_RETRY_AFTER
from mesh_webhook.deliveries.settings import WebhookSettings
from sessionmesh.v1 import webhook_pb2

logger = structlog.get_logger(__name__)


async def mend(pool: asyncpg.Pool, settings: WebhookSettings) -> bool:
    """Notes the time, or mends due times when the clock was set back by more than a second; whether it was.

    Any number of instances may do so at once, and what one did not finish the next call does.
    """
    [row] = await pool.fetch(
        "SELECT latest, latest - clock_timestamp() > interval '1 second' AS back FROM webhook_clock"
    )
    if not row["back"]:
        await pool.execute("UPDATE webhook_clock SET latest = greatest(latest, clock_timestamp())")
        return False
    logger.warning("the database's clock was set back", latest=str(row["latest"]))
    waits = [max(wait, MAX_RETRY_AFTER) * (1 + JITTER) for wait in settings.retry_schedule]
    longest, lease = timedelta(seconds=max(waits)), timedelta(seconds=settings.lease_seconds)
    after = UUID(bytes(16))
    while endpoints := [one["endpoint"] for one in await pool.fetch(_QUEUED, after)]:
        after = endpoints[-1]
        steps = [timedelta(seconds=wait) for wait in waits]
        while await pool.execute(_MEND, endpoints, steps, longest, lease) != "UPDATE 0":
            pass
    await pool.execute(_WAKE_ALL)
    await pool.execute(_MEND_HEALTH, row["latest"])
    await pool.execute("UPDATE webhook_clock SET latest = clock_timestamp() WHERE latest = $1", row["latest"])
    return True


_QUEUED = "SELECT endpoint FROM webhook_queue WHERE endpoint > $1 ORDER BY endpoint LIMIT 500"
# Each wait is counted from now, so a second call changes nothing. Deliveries are locked by id, as completions
# do; what somebody has changed meanwhile is left as it is.
_MEND = f"""UPDATE webhook_delivery d SET due_at = now() + m.most FROM (
    SELECT l.id, w.most FROM webhook_delivery l JOIN (
      SELECT late.id, late.due_at, late.most FROM (
        SELECT p.id, p.due_at, CASE WHEN p.token IS NOT NULL THEN $4 WHEN p.tries = 0 THEN interval '0'
            ELSE coalesce(($2::interval[])[p.tries + 1], $3) END AS most
          FROM webhook_delivery p WHERE p.state = {webhook_pb2.DELIVERY_STATE_PENDING}
            AND p.endpoint = ANY ($1) AND p.due_at > now()) late
      WHERE late.due_at > now() + late.most + interval '1 second' LIMIT 500) w ON w.id = l.id
    WHERE l.due_at = w.due_at ORDER BY l.id FOR UPDATE OF l) m
  WHERE d.id = m.id"""  # noqa: S608 - constants
_WAKE_ALL = """UPDATE webhook_queue SET due_at = now(), awake = true WHERE endpoint = ANY (ARRAY(
  SELECT endpoint FROM webhook_queue WHERE due_at > now() AND due_at < 'infinity'
    ORDER BY endpoint FOR UPDATE))"""
_MEND_HEALTH = """UPDATE webhook_health SET hold_until = hold_until - ($1 - now()),
  paced_until = least(paced_until, now()) WHERE endpoint = ANY (ARRAY(
    SELECT endpoint FROM webhook_health WHERE hold_until > now() OR paced_until > now()
      ORDER BY endpoint FOR UPDATE))"""
