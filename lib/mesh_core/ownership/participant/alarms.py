"""What an operator must know of a node's ownership: logged when it begins and ends, and as metrics."""

from __future__ import annotations

from functools import partial

import structlog

from mesh_core.etcd import boottime
from mesh_core.ownership import metrics
from mesh_core.ownership.participant.keeper import Keeper, Phase
from mesh_core.ownership.participant.table_writer import TableWriter

logger = structlog.get_logger(__name__)

ALARM_AFTER = 3.0
"""Seconds that something must last to be an alarm: a node that starts sees the others one after the other."""


class Alarms:
    """Looks at keeper and planner whenever `check` is called: at every change and every beat."""

    def __init__(self, keeper: Keeper, planner: TableWriter) -> None:
        self._keeper = keeper
        self._planner = planner
        self._since: dict[str, float] = {}
        self._raised: set[str] = set()
        for phase in Phase:
            metrics.SHARDS.labels(phase.name.lower()).set_function(partial(keeper.count, phase))
        for place, authority in enumerate(metrics.AUTHORITIES):
            metrics.BEAT_AGE.labels(authority).set_function(partial(_silence, keeper, place))
        metrics.DEADLINE.set_function(lambda: keeper.next_drop() - boottime())
        metrics.WAITING.set_function(lambda: keeper.longest_wait(boottime()))

    def check(self, now: float) -> None:
        keeper, planner, ttl = self._keeper, self._planner, self._keeper.timings.ttl
        for authority, fresh in (("etcd", keeper.etcd_fresh(now)), ("postgres", keeper.pg_fresh(now))):
            metrics.AUTHORITY.labels(authority).set(fresh)
            self._set(f"{authority} not heard: sessions run on the other authority alone", not fresh, now)
        self._set(
            "another node does not release what this one waits for", keeper.longest_wait(now) > 2 * ttl, now
        )
        self._set("the assignment table is stale", planner.stale(now), now)
        metrics.TABLE_STALE.set(planner.stale(now))
        self._set(
            "the planner cannot place shards as it should", bool(planner.refusing), now, planner.refusing
        )
        metrics.REFUSING.set(bool(planner.refusing))

    def _set(self, alarm: str, on: bool, now: float, detail: str = "") -> None:
        if not on:
            since = self._since.pop(alarm, now)
            if alarm in self._raised:
                self._raised.discard(alarm)
                logger.info("ownership alarm ended", alarm=alarm, seconds=round(now - since, 1))
        elif now - self._since.setdefault(alarm, now) >= ALARM_AFTER and alarm not in self._raised:
            self._raised.add(alarm)
            logger.warning("ownership alarm", alarm=alarm, detail=detail)


def _silence(keeper: Keeper, place: int) -> float:
    return keeper.silence(boottime())[place]
