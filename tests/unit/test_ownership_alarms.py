"""An alarm is logged once when it has lasted, and once when it ends."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

from structlog.testing import capture_logs

from mesh_core.ownership.participant.alarms import ALARM_AFTER, Alarms
from mesh_core.ownership.participant.keeper import Keeper, Phase, Tenure, Timings

LEASE = 7


def alarms(**planner: Any) -> tuple[Alarms, Keeper, MagicMock]:
    """With both authorities heard at 0 and nothing wrong."""
    keeper = Keeper(Timings())
    keeper.lease_granted(LEASE, 0.0)
    keeper.beat_answered(0.0)
    fake = MagicMock(refusing="", **planner)
    fake.stale.return_value = False
    return Alarms(keeper, cast("Any", fake)), keeper, fake


def heard(keeper: Keeper, now: float) -> None:
    keeper.lease_renewed(LEASE, now, now)
    keeper.beat_answered(now)


def test_a_short_trouble_is_no_alarm() -> None:
    watched, keeper, planner = alarms()
    with capture_logs() as logs:
        planner.refusing = "no node may own shards"
        watched.check(0.0)
        heard(keeper, 1.0)
        planner.refusing = ""
        watched.check(1.0)
    assert logs == []


def test_a_silent_authority_is_an_alarm_until_it_is_heard_again() -> None:
    watched, keeper, _ = alarms()
    with capture_logs() as logs:
        for now in (5.0, 5.0 + ALARM_AFTER, 6.0 + ALARM_AFTER):
            keeper.lease_renewed(LEASE, now, now)
            watched.check(now)
        heard(keeper, 20.0)
        watched.check(20.0)
    assert [entry["event"] for entry in logs] == ["ownership alarm", "ownership alarm ended"]
    assert all(entry["alarm"].startswith("postgres not heard") for entry in logs)


def test_a_release_that_does_not_come_is_an_alarm() -> None:
    watched, keeper, _ = alarms()
    tenure = Tenure(5, claim=1, revision=1, lease=LEASE, phase=Phase.CLAIMED, waiting_since=1.0)
    keeper.tenures[5] = tenure
    with capture_logs() as logs:
        for now in (10.0, 16.0, 16.0 + ALARM_AFTER):
            heard(keeper, now)
            watched.check(now)
    assert ["release" in entry["alarm"] for entry in logs] == [True]


def test_a_refusing_planner_says_why() -> None:
    watched, keeper, planner = alarms()
    planner.refusing = "more load than capacity"
    with capture_logs() as logs:
        for now in (1.0, 1.0 + ALARM_AFTER):
            heard(keeper, now)
            watched.check(now)
    assert [entry["detail"] for entry in logs] == ["more load than capacity"]
