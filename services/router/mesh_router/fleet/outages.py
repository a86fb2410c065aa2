"""Which nodes' network fails: their accounts say so in their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

import structlog

from mesh_core.database import UNAVAILABLE, Database
from sessionmesh.v1 import session_pb2

logger = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
OVER_SECONDS = 15.0
"""Without an account that waits for so long, it is over: the only one of a node may be trying just now."""


class NetworkOutages:
    """Counts accounts that wait for a failing network; `run` must run."""

    def __init__(self, database: Database) -> None:
        self.waiting: Mapping[str, int] = {}
        """How many accounts waited on which node, when any was seen last."""
        self._database = database
        self._since: float | None = None
        self._seen = 0.0

    async def run(self) -> None:
        """Counts again and again, until cancelled. The last count holds while the database is unavailable."""
        while True:
            try:
                rows = await self._database.pool.fetch(_WAITING)
                self.see({row["node"]: row["count"] for row in rows}, monotonic())
            except UNAVAILABLE as error:
                logger.info("waiting accounts are not counted", error=repr(error))
            except Exception:  # the next count may do better
                logger.exception("waiting accounts are not counted")
            await asyncio.sleep(EVERY_SECONDS)

    def see(self, waiting: Mapping[str, int], now: float) -> None:
        """So many accounts wait on which node, at `now` (monotonic seconds)."""
        if waiting:
            self.waiting, self._seen = waiting, now
            if self._since is None:
                self._since = now
        elif self._since is not None and now - self._seen >= OVER_SECONDS:
            self.waiting, self._since = {}, None

    def seconds(self, now: float) -> float:
        """How long accounts have been waiting; 0 while none is."""
        return 0.0 if self._since is None else now - self._since


# Constants, not arguments: only then Postgres can use its index of these sessions.
_WAITING = f"""SELECT node, count(*) AS count FROM session
  WHERE state = {int(session_pb2.SESSION_STATE_BACKOFF)}
    AND cause = {int(session_pb2.SESSION_CAUSE_NETWORK_FAILING)} GROUP BY node"""  # noqa: S608 - numbers of ours
