"""What holds of every plan, for any history of joins, losses and capacities."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_core.ownership.planner import Plan, _bands, plan

SHARDS = 128
NAMES = [f"node-{number}" for number in range(12)]
fleets = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 20_000), min_size=1)
placements = st.lists(st.none() | st.sampled_from(NAMES), min_size=SHARDS, max_size=SHARDS)


def voluntary_moves(before: list[str | None], after: Plan, fleet: dict[str, int]) -> int:
    pairs = zip(before, after.placement, strict=True)
    return sum(old != new and old in fleet for old, new in pairs)


@given(placements, fleets)
@settings(max_examples=60, deadline=None)
def test_with_enough_budget_every_load_is_within_its_band(
    before: list[str | None], fleet: dict[str, int]
) -> None:
    after = plan(before, fleet, budget=SHARDS)
    for node, (low, high) in _bands(SHARDS, fleet).items():
        assert low <= after.placement.count(node) <= high


@given(placements, fleets, st.integers(0, SHARDS))
@settings(max_examples=60, deadline=None)
def test_every_shard_has_a_node_of_the_fleet_and_the_budget_is_kept(
    before: list[str | None], fleet: dict[str, int], budget: int
) -> None:
    after = plan(before, fleet, budget=budget)
    assert set(after.placement) <= fleet.keys()
    assert voluntary_moves(before, after, fleet) <= budget


@given(placements, fleets)
@settings(max_examples=60, deadline=None)
def test_a_finished_plan_is_left_alone(before: list[str | None], fleet: dict[str, int]) -> None:
    after = plan(before, fleet, budget=SHARDS)
    assert plan(after.placement, fleet, budget=SHARDS) == after


@given(placements, fleets)
@settings(max_examples=60, deadline=None)
def test_rounds_with_a_small_budget_end_where_one_big_round_would_balance(
    before: list[str | None], fleet: dict[str, int]
) -> None:
    after = plan(before, fleet, budget=16)
    for _ in range(SHARDS):
        if not after.deferred:
            break
        after = plan(after.placement, fleet, budget=16)
    for node, (low, high) in _bands(SHARDS, fleet).items():
        assert low <= after.placement.count(node) <= high


@given(placements, fleets, st.sampled_from(NAMES))
@settings(max_examples=60, deadline=None)
def test_losing_a_node_moves_only_its_own_shards_when_the_rest_stays_in_band(
    before: list[str | None], fleet: dict[str, int], lost: str
) -> None:
    balanced = plan(before, fleet, budget=SHARDS).placement
    rest = {node: capacity for node, capacity in fleet.items() if node != lost}
    if not rest:
        return
    after = plan(balanced, rest, budget=0).placement
    assert all(old == new for old, new in zip(balanced, after, strict=True) if old != lost)


@given(placements, fleets, st.sets(st.sampled_from(NAMES)))
@settings(max_examples=60, deadline=None)
def test_shards_of_pinned_nodes_stay(
    before: list[str | None], fleet: dict[str, int], pinned: set[str]
) -> None:
    hidden = pinned - fleet.keys()
    after = plan(before, fleet, budget=SHARDS, pinned=hidden)
    assert all(new == old for old, new in zip(before, after.placement, strict=True) if old in hidden)
