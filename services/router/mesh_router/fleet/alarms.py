"""Alarms: what is wrong with the fleet now. Each is logged once when it begins and once when it ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from mesh_core.ids import SHARDS
from mesh_core.metrics import gauges
from mesh_router.fleet.admission import ALARM_PERCENT, WARN_PERCENT
from mesh_router.fleet.resources import timestamp
from sessionmesh.admin.v1 import fleet_pb2

logger = structlog.get_logger(__name__)

Kind: TypeAlias = "fleet_pb2.AlarmKind.ValueType"


def _name(kind: Kind) -> str:
    return fleet_pb2.AlarmKind.Name(kind).removeprefix("ALARM_KIND_").lower()


ALARM = gauges(
    "mesh_fleet_alarm",
    "1 while the alarm is on.",
    answers="What is wrong with the fleet now?",
    kind=[_name(kind) for kind in fleet_pb2.AlarmKind.values()[1:]],
)

OUTAGE_SECONDS = 10.0
"""A network that fails for less is not worth waking anybody."""
STALE_SECONDS = 5.0
"""The view counts as stale when nothing was heard of etcd for this long."""

UNDELETED_SECONDS = 86_400.0
"""Old data is deleted every hour; so long without success is too long."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something wrong: with what, for how many seconds already, and in words."""

    subject: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the alarms are judged by. Durations are in seconds."""

    grace: float
    """Twice the TTL of owners: a dead node's shards have moved by then."""
    silence: float
    """Since the view was last known to be up to date."""
    unowned: int
    """Shards without an owner for longer than `grace`."""
    oldest_unowned: float
    without_active_node: float
    accounts: int
    capacity: int
    usage_percent: float
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Accounts that wait for a failing network, by node."""
    outage: float = 0.0
    """For how long accounts have been waiting so."""
    undeleted: float = 0.0
    """Since all old data was last deleted."""
    undeleted_reason: str = ""


def judge(facts: Facts) -> dict[Kind, Condition]:
    """The conditions to raise an alarm for."""
    wrong: dict[Kind, Condition] = {}
    if facts.unowned:
        wrong[fleet_pb2.ALARM_KIND_SHARDS_UNOWNED] = Condition(
            "shards",
            facts.oldest_unowned,
            f"{facts.unowned} of {SHARDS} shards have no owner: their accounts are offline",
        )
    if facts.silence >= STALE_SECONDS:
        wrong[fleet_pb2.ALARM_KIND_VIEW_STALE] = Condition(
            "etcd", facts.silence, "etcd does not answer: this router uses the owners that it saw last"
        )
    if facts.without_active_node > facts.grace:
        wrong[fleet_pb2.ALARM_KIND_NO_ACTIVE_NODE] = Condition(
            "fleet", facts.without_active_node, "no session-node is ACTIVE: no account can come online"
        )
    if facts.outage >= OUTAGE_SECONDS:
        wrong[fleet_pb2.ALARM_KIND_NETWORK_FAILING] = Condition(
            "network",
            facts.outage,
            f"the network fails for most accounts of {', '.join(sorted(facts.waiting))}: "
            f"{sum(facts.waiting.values())} wait until it works again",
        )
    if facts.undeleted >= UNDELETED_SECONDS:
        wrong[fleet_pb2.ALARM_KIND_RETENTION_LATE] = Condition(
            "retention",
            facts.undeleted - UNDELETED_SECONDS,
            f"old data is not deleted: {facts.undeleted_reason or 'no router has come to it'}",
        )
    filled = f"{facts.accounts} accounts want one of {facts.capacity} sessions"
    if facts.capacity and facts.usage_percent >= ALARM_PERCENT:
        wrong[fleet_pb2.ALARM_KIND_CAPACITY_CRITICAL] = Condition("fleet", 0.0, filled)
    elif facts.capacity and facts.usage_percent >= WARN_PERCENT:
        wrong[fleet_pb2.ALARM_KIND_CAPACITY_WARNING] = Condition("fleet", 0.0, filled)
    return wrong


class Alarms:
    """The alarms that are on."""

    def __init__(self) -> None:
        self.on: Mapping[Kind, fleet_pb2.Alarm] = {}
        for kind in fleet_pb2.AlarmKind.values()[1:]:
            ALARM.labels(_name(kind)).set(0)

    def update(self, wrong: Mapping[Kind, Condition]) -> None:
        """Begin and end alarms so that they are those of `wrong`."""
        now: dict[Kind, fleet_pb2.Alarm] = {}
        for kind, condition in sorted(wrong.items()):
            before = self.on.get(kind)
            since = before.since if before else timestamp(time.time() - condition.seconds)
            now[kind] = fleet_pb2.Alarm(
                kind=kind, since=since, subject=condition.subject, detail=condition.detail
            )
            if before is None:
                ALARM.labels(_name(kind)).set(1)
                level = logger.warning if kind == fleet_pb2.ALARM_KIND_CAPACITY_WARNING else logger.error
                level("alarm", alarm=_name(kind), subject=condition.subject, detail=condition.detail)
        for kind in self.on.keys() - now.keys():
            ALARM.labels(_name(kind)).set(0)
            lasted = time.time() - self.on[kind].since.ToNanoseconds() / 1e9
            logger.info("alarm is over", alarm=_name(kind), seconds=round(lasted, 1))
        self.on = now
