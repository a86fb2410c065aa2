"""What holds of every plan, for any history of joins, losses, capacities and loads.

Shards are few here, so that one of them is a large part of a node: bounds are those of the band, or of what
a single shard allows.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_core.ownership.planning.fleet import BAND_PER_MILLE, EMPTY_WEIGHT, SESSION_WEIGHT, SLACK_SESSIONS
from mesh_core.ownership.planning.loads import decode_loads, encode_loads, weight_of
from mesh_core.ownership.planning.planner import Plan, plan

SHARDS = 128
NAMES = [f"node-{number}" for number in range(12)]
BAND = Fraction(BAND_PER_MILLE, 1000)
SLACK = Fraction(SLACK_SESSIONS * SESSION_WEIGHT)
names = st.sampled_from(NAMES)
fleets = st.dictionaries(names, st.integers(1, 20_000), min_size=1)
seeds = st.integers(0, 2**32).map(Random)
"""Long lists are drawn from a seed: as examples of their own they take hypothesis seconds each."""
placements = st.tuples(seeds, st.sets(names)).map(
    lambda drawn: drawn[0].choices([None, *sorted(drawn[1])], k=SHARDS)
)
equal_weights = st.integers(1, 65535).map(lambda weight: [weight] * SHARDS)
session_weights = st.tuples(seeds, st.sampled_from([0, 1, 3, 300])).map(
    lambda drawn: [weight_of(drawn[0].randint(0, drawn[1]), 0) for _ in range(SHARDS)]
)
wild_weights = seeds.map(lambda random: [int(random.paretovariate(0.7)) % 65535 + 1 for _ in range(SHARDS)])
any_weights = equal_weights | session_weights | wild_weights
ROUNDS = 60


def moved(before: Plan, after: Plan) -> set[int]:
    pairs = enumerate(zip(before.placement, after.placement, strict=True))
    return {shard for shard, (old, new) in pairs if old != new}


def load(after: Plan, weights: list[int], name: str) -> int:
    return sum(weight for node, weight in zip(after.placement, weights, strict=True) if node == name)


def balanced(before: list[str | None], fleet: dict[str, int], weights: list[int]) -> Plan:
    return plan(before, fleet, budget=SHARDS, weights=weights)


def surplus(after: Plan, fleet: dict[str, int], weights: list[int], name: str) -> Fraction:
    """How far above its share the node's load is."""
    share = Fraction(sum(weights) * fleet[name], sum(fleet.values()))
    return load(after, weights, name) - share


def is_off(above: Fraction, share: Fraction, weights: list[int]) -> bool:
    """Above the band, or below it by a shard at least, and by more than a few sessions."""
    if abs(above) <= max(BAND * share, SLACK):
        return False
    return above > 0 or -above >= Fraction(sum(weights), SHARDS)


@given(placements, fleets, any_weights, seeds)
@settings(max_examples=60)
def test_the_order_of_what_is_given_does_not_matter(
    before: list[str | None], fleet: dict[str, int], weights: list[int], random: Random
) -> None:
    shuffled = sorted(fleet)
    random.shuffle(shuffled)
    again = {name: fleet[name] for name in shuffled}
    assert plan(before, fleet, budget=20, weights=weights) == plan(before, again, budget=20, weights=weights)


@given(placements, fleets, any_weights, st.integers(0, SHARDS))
@settings(max_examples=60)
def test_every_shard_has_a_node_of_the_fleet_and_the_budget_is_kept(
    before: list[str | None], fleet: dict[str, int], weights: list[int], budget: int
) -> None:
    after = plan(before, fleet, budget=budget, weights=weights)
    assert set(after.placement) <= fleet.keys()
    pairs = zip(before, after.placement, strict=True)
    assert sum(old != new and old in fleet for old, new in pairs) <= budget


@given(placements, st.sets(names, min_size=1), session_weights | equal_weights)
@settings(max_examples=60)
def test_with_enough_budget_no_load_of_equal_nodes_is_further_off_than_its_band_or_a_shard(
    before: list[str | None], nodes: set[str], weights: list[int]
) -> None:
    fleet = dict.fromkeys(nodes, 5000)
    after = balanced(before, fleet, weights)
    allowed = max(BAND * Fraction(sum(weights), len(fleet)), Fraction(max(weights)), SLACK)
    for name in fleet:
        assert abs(surplus(after, fleet, weights, name)) <= allowed


@given(placements, fleets, any_weights)
@settings(max_examples=60)
def test_where_a_load_is_off_no_move_of_a_shard_would_make_it_better(
    before: list[str | None], fleet: dict[str, int], weights: list[int]
) -> None:
    """Better: nearer to its share, and neither node as far off, for its capacity, as the worse one was."""
    after = balanced(before, fleet, weights)
    above = {name: surplus(after, fleet, weights, name) for name in fleet}
    shares = {name: Fraction(sum(weights) * fleet[name], sum(fleet.values())) for name in fleet}
    for donor, taker in permutations(fleet, 2):
        patients = [name for name in (donor, taker) if is_off(above[name], shares[name], weights)]
        worse = max(abs(above[name]) / fleet[name] for name in (donor, taker))
        at_donor = zip(after.placement, weights, strict=True)
        for weight in {weight for node, weight in at_donor if node == donor}:
            new = {donor: above[donor] - weight, taker: above[taker] + weight}
            helped = [
                name
                for name in patients
                if abs(new[name]) < abs(above[name]) and (above[name] > 0) == (name == donor)
            ]
            assert not helped or max(abs(new[name]) / fleet[name] for name in new) >= worse


@given(placements, fleets, any_weights)
@settings(max_examples=60)
def test_a_finished_plan_is_left_alone(
    before: list[str | None], fleet: dict[str, int], weights: list[int]
) -> None:
    after = balanced(before, fleet, weights)
    assert plan(after.placement, fleet, budget=SHARDS, weights=weights) == after


@given(placements, fleets, any_weights)
@settings(max_examples=60)
def test_rounds_with_a_small_budget_come_to_rest(
    before: list[str | None], fleet: dict[str, int], weights: list[int]
) -> None:
    after = plan(before, fleet, budget=16, weights=weights)
    for _ in range(ROUNDS):
        previous, after = after, plan(after.placement, fleet, budget=16, weights=weights)
        if after == previous:
            break
    assert after == previous
    assert after.deferred == 0


@given(placements, fleets, session_weights, names)
@settings(max_examples=60)
def test_a_join_moves_shards_to_the_newcomer_alone_and_about_its_share(
    before: list[str | None], fleet: dict[str, int], weights: list[int], newcomer: str
) -> None:
    fleet = {name: 5000 for name in fleet if name != newcomer} or {"only": 5000}
    old = balanced(before, fleet, weights)
    larger = fleet | {newcomer: 5000}
    new = plan(old.placement, larger, budget=SHARDS, weights=weights)
    taken = sum(weights[shard] for shard in moved(old, new) if new.placement[shard] == newcomer)
    others = sum(weights[shard] for shard in moved(old, new) if new.placement[shard] != newcomer)
    share = sum(weights) / len(larger)
    assert taken <= share + max(weights)
    # what others exchange is only what a node lost or kept too much because shards are lumps
    assert others <= len(fleet) * max(weights)


@given(placements, fleets, any_weights, names)
@settings(max_examples=60)
def test_losing_a_node_moves_its_shards_whatever_the_budget_and_no_others_without(
    before: list[str | None], fleet: dict[str, int], weights: list[int], lost: str
) -> None:
    rest = {name: capacity for name, capacity in fleet.items() if name != lost} or {"only": 1}
    old = balanced(before, rest | {lost: 5000}, weights)
    new = plan(old.placement, rest, budget=0, weights=weights)
    assert moved(old, new) == {shard for shard, name in enumerate(old.placement) if name == lost}


@given(placements, fleets, any_weights, names)
@settings(max_examples=60)
def test_a_replacement_gets_exactly_what_the_replaced_node_had(
    before: list[str | None], fleet: dict[str, int], weights: list[int], old_name: str
) -> None:
    fleet = fleet | {old_name: 5000}
    old = balanced(before, fleet, weights)
    replaced = {name: capacity for name, capacity in fleet.items() if name != old_name} | {"new": 5000}
    new = plan(
        old.placement, replaced, budget=SHARDS, weights=weights, replacements={old_name: "new"}
    ).placement
    assert new == tuple("new" if name == old_name else name for name in old.placement)
    assert plan(new, replaced, budget=SHARDS, weights=weights).placement == new


@given(placements, fleets, any_weights, st.sets(names))
@settings(max_examples=60)
def test_shards_of_pinned_nodes_stay(
    before: list[str | None], fleet: dict[str, int], weights: list[int], pinned: set[str]
) -> None:
    hidden = pinned - fleet.keys()
    after = plan(before, fleet, budget=SHARDS, pinned=hidden, weights=weights)
    assert all(new == old for old, new in zip(before, after.placement, strict=True) if old in hidden)


@given(st.integers(0, 10_000), st.integers(0, 1_000_000), st.integers(1, 100))
def test_more_sessions_or_messages_never_weigh_less(sessions: int, messages: int, more: int) -> None:
    weight = weight_of(sessions, messages)
    assert EMPTY_WEIGHT <= weight <= weight_of(sessions + more, messages)
    assert weight <= weight_of(sessions, messages + more)


@given(st.dictionaries(st.integers(0, 4095), st.integers(0, 65535)))
def test_loads_survive_their_encoding(weights: dict[int, int]) -> None:
    assert decode_loads(encode_loads(weights)) == weights
