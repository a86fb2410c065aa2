"""What the router concludes from what it sees of the fleet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from mesh_core.errors import ResourceExhausted
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.sizing.figures import SIMULATED, WHATSAPP_WEB
from mesh_core.sizing.fleet import fleet_need
from mesh_router.fleet.admission import Admission
from mesh_router.fleet.alarms import Alarms, Condition, Facts, judge
from mesh_router.fleet.monitor import UnownedShards
from mesh_router.fleet.outages import OVER_SECONDS, NetworkOutages
from mesh_router.fleet.resources import plan_message
from sessionmesh.admin.v1 import fleet_pb2

WELL = Facts(
    grace=14.0,
    silence=0.5,
    unowned=0,
    oldest_unowned=0.0,
    without_active_node=0.0,
    accounts=10,
    capacity=100,
    usage_percent=10.0,
)


# --- shards without owner


def test_a_shard_is_unowned_since_it_was_first_seen_so() -> None:
    shards = UnownedShards()
    shards.see({1}, 100.0, fresh=True)
    shards.see({1, 2}, 110.0, fresh=True)
    shards.see({1, 2}, 115.0, fresh=True)
    assert (shards.count, shards.oldest) == (2, 15.0)
    assert (shards.longer_than(14.0), shards.longer_than(4.0)) == (1, 2)


def test_an_owner_in_between_begins_anew() -> None:
    shards = UnownedShards()
    shards.see({1}, 0.0, fresh=True)
    shards.see(set(), 10.0, fresh=True)
    shards.see({1}, 20.0, fresh=True)
    assert (shards.count, shards.oldest) == (1, 0.0)


def test_no_time_passes_while_nobody_knows() -> None:
    shards = UnownedShards()
    shards.see({1}, 0.0, fresh=True)
    shards.see({1}, 3.0, fresh=True)
    for second in range(4, 100):
        shards.see({1}, float(second), fresh=False)
    assert shards.oldest == 3.0
    shards.see({1}, 100.0, fresh=True)
    assert shards.oldest == 4.0


# --- alarms


def test_nothing_is_wrong_with_a_fleet_that_is_well() -> None:
    assert judge(WELL) == {}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"unowned": 1, "oldest_unowned": 15.0}, fleet_pb2.ALARM_KIND_SHARDS_UNOWNED),
        ({"silence": 5.0}, fleet_pb2.ALARM_KIND_VIEW_STALE),
        ({"without_active_node": 14.5}, fleet_pb2.ALARM_KIND_NO_ACTIVE_NODE),
        ({"usage_percent": 80.0}, fleet_pb2.ALARM_KIND_CAPACITY_WARNING),
        ({"usage_percent": 95.0}, fleet_pb2.ALARM_KIND_CAPACITY_CRITICAL),
        ({"outage": 10.0, "waiting": {"n1": 3}}, fleet_pb2.ALARM_KIND_NETWORK_FAILING),
        ({"undeleted": 86_400.0}, fleet_pb2.ALARM_KIND_RETENTION_LATE),
    ],
)
def test_each_thing_that_is_wrong_is_one_alarm(
    change: dict[str, Any], kind: fleet_pb2.AlarmKind.ValueType
) -> None:
    assert set(judge(replace(WELL, **change))) == {kind}


@pytest.mark.parametrize(
    "change",
    [
        {"outage": 9.9, "waiting": {"n1": 3}},
        {"silence": 4.9},
        {"without_active_node": 13.9},
        {"usage_percent": 79.9},
        {"capacity": 0},
    ],
)
def test_what_may_pass_by_itself_is_none(change: dict[str, Any]) -> None:
    assert judge(replace(WELL, **change)) == {}


def test_an_alarm_keeps_its_beginning_and_tells_the_latest() -> None:
    alarms = Alarms()
    kind = fleet_pb2.ALARM_KIND_SHARDS_UNOWNED
    alarms.update({kind: Condition("shards", 20.0, "one")})
    since = alarms.on[kind].since
    alarms.update({kind: Condition("shards", 21.0, "two")})
    assert (alarms.on[kind].since, alarms.on[kind].detail) == (since, "two")
    alarms.update({})
    assert not alarms.on


def test_a_failing_network_is_told_with_its_nodes_and_how_many_wait() -> None:
    wrong = judge(replace(WELL, outage=12.0, waiting={"n2": 5, "n1": 3}))
    assert wrong[fleet_pb2.ALARM_KIND_NETWORK_FAILING].detail == (
        "the network fails for most accounts of n1, n2: 8 wait until it works again"
    )


# --- outages of the network


def outages() -> NetworkOutages:
    return NetworkOutages(cast(Any, None))


def test_an_outage_lasts_since_the_first_account_was_seen_to_wait() -> None:
    seen = outages()
    seen.see({}, 90.0)
    seen.see({"n1": 1}, 100.0)
    seen.see({"n1": 7}, 110.0)
    assert (seen.waiting, seen.seconds(110.0)) == ({"n1": 7}, 10.0)


def test_an_outage_goes_on_while_its_only_account_tries() -> None:
    seen = outages()
    seen.see({"n1": 1}, 100.0)
    seen.see({}, 110.0)
    seen.see({"n1": 1}, 112.0)
    assert seen.seconds(112.0) == 12.0


def test_an_outage_is_over_when_nobody_has_waited_for_a_while() -> None:
    seen = outages()
    seen.see({"n1": 1}, 100.0)
    seen.see({}, 100.0 + OVER_SECONDS)
    assert (seen.waiting, seen.seconds(120.0)) == ({}, 0.0)


# --- room for accounts


@dataclass
class View:
    """Nodes as a router sees them."""

    capacities: list[int] = field(default_factory=list)

    def nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(id=f"n{i}", incarnation="", address="", capacity=capacity, state=NodeState.ACTIVE)
            for i, capacity in enumerate(self.capacities)
        ]


@dataclass
class Rows:
    """How many accounts Postgres counts, and what happens while it counts."""

    count: int = 0
    meanwhile: list[Any] = field(default_factory=list)

    async def wanted(self, _database: object) -> dict[int, int]:
        counted = {0: self.count}
        for act in self.meanwhile:
            act()
        return counted


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    stored = Rows()
    monkeypatch.setattr("mesh_router.fleet.admission.wanted_by_shard", stored.wanted)
    return stored


def admission_of(*capacities: int) -> Admission:
    return Admission(cast(Any, None), cast(Any, View(list(capacities))))


def enter(admission: Admission, rows: Rows) -> None:
    """An account that is created."""
    with admission.reservation() as reservation:
        reservation.reserve()
        rows.count += 1


async def test_what_is_let_in_counts_at_once_and_after_a_count(rows: Rows) -> None:
    admission = admission_of(1, 1)
    enter(admission, rows)
    await admission.refresh()
    enter(admission, rows)
    assert admission.accounts == 2
    with pytest.raises(ResourceExhausted):
        enter(admission, rows)
    await admission.refresh()
    assert admission.accounts == 2


async def test_a_call_that_fails_gives_its_place_back(rows: Rows) -> None:
    admission = admission_of(1)

    def fails() -> None:
        with admission.reservation() as reservation:
            reservation.reserve()
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    enter(admission, rows)


async def test_one_that_comes_while_the_accounts_are_counted_is_never_forgotten(rows: Rows) -> None:
    admission = admission_of(1)
    rows.meanwhile.append(lambda: enter(admission, rows))
    await admission.refresh()
    rows.meanwhile.clear()
    assert admission.accounts == 1
    await admission.refresh()
    assert admission.accounts == 1


async def test_a_place_is_held_while_the_call_goes_on(rows: Rows) -> None:
    admission = admission_of(1)
    with admission.reservation() as reservation:
        reservation.reserve()
        await admission.refresh()
        with pytest.raises(ResourceExhausted):
            admission.reserve()


def test_nothing_is_refused_while_no_node_is_known() -> None:
    admission_of().reserve()


# --- plans


def test_a_plan_has_room_for_all_accounts_when_the_spare_nodes_are_lost() -> None:
    found = plan_message(fleet_need(SIMULATED, 9_001, 0.0, 3_000, spare=2), SIMULATED, [])
    assert found.nodes == 4 + 2
    assert found.connect_time.seconds == 5, "2,251 accounts at 500 a second"


def test_traffic_may_need_more_nodes_than_sessions_do() -> None:
    quiet = fleet_need(SIMULATED, 1_000, 1.0, 5_000, spare=1)
    busy = fleet_need(SIMULATED, 1_000, 5_000.0, 5_000, spare=1)
    assert (quiet.nodes, quiet.decided_by) == (2, "sessions")
    assert (busy.nodes, busy.decided_by) == (12, "messages")
    assert busy.node_cores <= 1.0


def test_linked_devices_are_planned_by_their_own_figures() -> None:
    need = fleet_need(WHATSAPP_WEB, 5_000, 10.0, 5_000, spare=1)
    found = plan_message(need, WHATSAPP_WEB, [])
    assert found.node_memory_bytes == need.node_bytes > 1 << 30, "a quarter of a MiB each"
    assert any("whatsapp_web" in line and "commit" in line for line in found.assumptions)
