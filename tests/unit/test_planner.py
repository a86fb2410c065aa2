"""The planner and the table by example."""

from __future__ import annotations

from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.planning.loads import encode_loads, weight_of
from mesh_core.ownership.planning.planner import NO_NODE, OVER_CAPACITY, Plan, plan
from mesh_core.ownership.planning.table import (
    NO_TABLE,
    NOBODY,
    UNKNOWN,
    Situation,
    Table,
    decode_table,
    encode_table,
)

ALL = 10 * SHARDS


def loads(placement: Plan) -> dict[str | None, int]:
    return {node: placement.placement.count(node) for node in sorted(set(placement.placement), key=str)}


def moved(before: Plan, after: Plan) -> list[int]:
    pairs = enumerate(zip(before.placement, after.placement, strict=True))
    return [shard for shard, (old, new) in pairs if old != new]


def node(
    name: str, state: NodeState = NodeState.ACTIVE, capacity: int = 10, replaced_by: str = ""
) -> NodeInfo:
    return NodeInfo(
        id=name,
        incarnation=f"{name}-1",
        address=f"{name}:1",
        capacity=capacity,
        state=state,
        replaced_by=replaced_by,
    )


def with_sessions(sessions: dict[int, int]) -> list[int]:
    """Weights of shards with so many sessions, the others being empty."""
    return [weight_of(sessions.get(shard, 0), 0) for shard in range(SHARDS)]


def situation(placement: tuple[str | None, ...], *nodes: NodeInfo) -> Situation:
    return Situation({one.id: one for one in nodes}, placement, 1)


def test_a_first_plan_spreads_all_shards_in_proportion_to_capacity() -> None:
    assert loads(plan(NOBODY, {"a": 1, "b": 1, "c": 2}, budget=0)) == {"a": 1024, "b": 1024, "c": 2048}


def test_the_same_question_has_the_same_answer_whatever_the_order_of_nodes() -> None:
    assert plan(NOBODY, {"a": 5, "b": 7, "c": 9}, budget=0) == plan(
        NOBODY, {"c": 9, "b": 7, "a": 5}, budget=0
    )


def test_a_joining_node_takes_its_share_and_nothing_else_moves() -> None:
    before = plan(NOBODY, {"a": 1, "b": 1, "c": 1}, budget=0)
    after = plan(before.placement, {"a": 1, "b": 1, "c": 1, "d": 1}, budget=ALL)
    assert loads(after)["d"] == 1024
    assert {after.placement[shard] for shard in moved(before, after)} == {"d"}


def test_a_lost_nodes_shards_move_and_nothing_else() -> None:
    before = plan(NOBODY, {"a": 1, "b": 1, "c": 1}, budget=0)
    after = plan(before.placement, {"a": 1, "b": 1}, budget=ALL)
    assert {before.placement[shard] for shard in moved(before, after)} == {"c"}
    assert loads(after) == {"a": 2048, "b": 2048}


def test_a_returning_node_gets_the_shards_it_would_have_had() -> None:
    """Rendezvous order: which shards go to a node depends on the node, not on history."""
    before = plan(NOBODY, {"a": 1, "b": 1, "c": 1}, budget=0)
    without = plan(before.placement, {"a": 1, "b": 1}, budget=ALL)
    again = plan(without.placement, {"a": 1, "b": 1, "c": 1}, budget=ALL)
    back = {shard for shard, owner in enumerate(before.placement) if owner == "c"} & {
        shard for shard, owner in enumerate(again.placement) if owner == "c"
    }
    assert len(back) > 1365 * 2 // 3


def test_a_deviation_within_the_band_is_left_alone() -> None:
    even = plan(NOBODY, {"a": 1, "b": 1}, budget=0).placement
    given_away = [shard for shard, owner in enumerate(even) if owner == "a"][:40]
    skewed = tuple("b" if shard in given_away else owner for shard, owner in enumerate(even))
    assert plan(skewed, {"a": 1, "b": 1}, budget=ALL).placement == skewed


def test_voluntary_moves_stop_at_the_budget_and_say_how_many_are_left() -> None:
    before = plan(NOBODY, {"a": 1}, budget=0)
    after = plan(before.placement, {"a": 1, "b": 1}, budget=100)
    assert len(moved(before, after)) == 100
    assert after.deferred == 1948


def test_shards_of_a_lost_node_move_without_regard_to_the_budget() -> None:
    before = plan(NOBODY, {"a": 1, "b": 1}, budget=0)
    assert loads(plan(before.placement, {"a": 1}, budget=0)) == {"a": SHARDS}


def test_without_any_node_nothing_changes_and_the_plan_says_why() -> None:
    before = plan(NOBODY, {"a": 1}, budget=0).placement
    assert plan(before, {}, budget=ALL) == Plan(before, 0, NO_NODE)


def test_more_load_than_capacity_is_placed_all_the_same_and_the_plan_says_so() -> None:
    weights = with_sessions(dict.fromkeys(range(2001), 1))
    for capacity, refusing in ((1000, OVER_CAPACITY), (1001, "")):
        after = plan(NOBODY, {"a": capacity, "b": capacity}, budget=0, weights=weights)
        assert (set(after.placement), after.refusing) == ({"a", "b"}, refusing)


def test_sessions_count_not_shards() -> None:
    sessions = {shard: 1 + shard % 7 for shard in range(0, SHARDS, 3)}
    after = plan(NOBODY, {"a": 5000, "b": 5000}, budget=0, weights=with_sessions(sessions)).placement
    at = {name: sum(sessions[shard] for shard in sessions if after[shard] == name) for name in "ab"}
    assert abs(at["a"] - at["b"]) < sum(sessions.values()) // 50


def test_a_handful_of_accounts_on_a_small_mesh_moves_nothing() -> None:
    fleet = {"a": 5000, "b": 5000, "c": 5000}
    before = plan(NOBODY, fleet, budget=0).placement
    at_a = [shard for shard, name in enumerate(before) if name == "a"][:12]
    weights = with_sessions(dict.fromkeys(at_a, 1))
    assert plan(before, fleet, budget=ALL, weights=weights).placement == before


def test_a_node_with_far_more_sessions_than_others_gives_some_away() -> None:
    fleet = {"a": 5000, "b": 5000, "c": 5000}
    before = plan(NOBODY, fleet, budget=0)
    at_a = [shard for shard, name in enumerate(before.placement) if name == "a"][:1000]
    weights = with_sessions(dict.fromkeys(at_a, 3))
    after = plan(before.placement, fleet, budget=ALL, weights=weights)
    assert 300 < sum(after.placement[shard] == "a" for shard in at_a) < 450
    assert sum(before.placement[shard] != "a" for shard in moved(before, after)) < 3
    assert plan(after.placement, fleet, budget=ALL, weights=weights) == after


def test_a_replaced_nodes_shards_all_go_to_its_replacement_and_nothing_else_moves() -> None:
    before = plan(NOBODY, {"a": 10, "b": 10, "c": 10}, budget=0)
    seen = situation(
        before.placement, node("a"), node("b"), node("c", NodeState.DRAINING, replaced_by="d"), node("d")
    )
    after = seen.plan(budget=ALL, may_drop_missing=True)
    assert moved(before, after) == [shard for shard, name in enumerate(before.placement) if name == "c"]
    assert {after.placement[shard] for shard in moved(before, after)} == {"d"}


def test_a_replacement_that_may_not_own_shards_makes_it_an_ordinary_drain() -> None:
    before = plan(NOBODY, {"a": 10, "b": 10, "c": 10}, budget=0)
    for replacement in (node("d", NodeState.STANDBY), node("d", capacity=0), node("e")):
        seen = situation(
            before.placement,
            node("a"),
            node("b"),
            node("c", NodeState.DRAINING, replaced_by="d"),
            replacement,
        )
        without = seen.capacities
        assert seen.plan(budget=0, may_drop_missing=True) == plan(before.placement, without, budget=0)


def test_a_standby_node_loses_what_it_has_and_one_without_capacity_gets_nothing() -> None:
    before = plan(NOBODY, {"a": 10, "b": 10}, budget=0).placement
    seen = situation(before, node("a"), node("b", NodeState.STANDBY), node("c", capacity=0))
    assert loads(seen.plan(budget=0, may_drop_missing=False)) == {"a": SHARDS}


def test_only_active_nodes_are_given_shards() -> None:
    seen = situation(NOBODY, node("a"), node("b", NodeState.STANDBY), node("c", NodeState.JOINING))
    assert loads(seen.plan(budget=0, may_drop_missing=False)) == {"a": SHARDS}


def test_a_draining_node_loses_its_shards_at_once() -> None:
    before = plan(NOBODY, {"a": 1, "b": 1}, budget=0).placement
    seen = situation(before, node("a"), node("b", NodeState.DRAINING))
    assert loads(seen.plan(budget=0, may_drop_missing=False)) == {"a": SHARDS}


def test_a_missing_node_keeps_its_shards_until_it_may_be_dropped() -> None:
    before = plan(NOBODY, {"a": 1, "b": 1}, budget=0).placement
    seen = situation(before, node("a"))
    assert seen.plan(budget=ALL, may_drop_missing=False).placement == before
    assert loads(seen.plan(budget=0, may_drop_missing=True)) == {"a": SHARDS}


def test_a_node_that_joins_while_another_is_missing_shares_what_is_in_sight() -> None:
    before = plan(NOBODY, {"a": 1, "b": 1}, budget=0).placement
    seen = situation(before, node("a"), node("c"))
    assert loads(seen.plan(budget=ALL, may_drop_missing=False)) == {"a": 1024, "b": 2048, "c": 1024}


def test_the_owner_of_a_shard_tells_its_weight() -> None:
    table = Table(("a", "b", *NOBODY[2:]), (7, 8, 9, *UNKNOWN[3:]))
    told = {"a": encode_loads({0: 100, 1: 101, 2: 102}), "b": encode_loads({0: 200, 1: 201})}
    seen = Situation.of({}, table, 1, told, {})
    assert seen.weights[:4] == (100, 201, 9, 0)
    assert seen.remembered == table.weights


def test_a_shard_keeps_its_weight_when_its_node_is_gone() -> None:
    placement = plan(NOBODY, {"a": 1000, "b": 1000, "c": 1000}, budget=0).placement
    heavy = [shard for shard, name in enumerate(placement) if name == "a"][:100]
    weights = tuple(with_sessions(dict.fromkeys(heavy, 10)))
    nodes = {name: node(name, capacity=1000) for name in "bc"}
    after = Situation.of(nodes, Table(placement, weights), 1, {}, {}).plan(budget=0, may_drop_missing=True)
    heavy_at_b = sum(after.placement[shard] == "b" for shard in heavy)
    assert 40 < heavy_at_b < 60


def test_a_node_that_tells_of_its_load_before_the_others_do_loses_nothing() -> None:
    fleet = {name: node(name, capacity=5000) for name in "abc"}
    placement = plan(NOBODY, dict.fromkeys("abc", 5000), budget=0).placement
    for sessions in (0, 700, 2000):
        at_a = [shard for shard, name in enumerate(placement) if name == "a"]
        told = {shard: weight_of(int(rank < sessions), 0) for rank, shard in enumerate(at_a)}
        seen = Situation.of(fleet, Table(placement), 1, {"a": encode_loads(told)}, {})
        assert seen.plan(budget=ALL, may_drop_missing=True).placement == placement


def test_a_table_whose_weights_are_old_is_to_be_written_again() -> None:
    placement = plan(NOBODY, {"a": 5000}, budget=0).placement
    for sessions, forgets in ((0, False), (10, False), (100, True)):
        told = {shard: weight_of(int(shard < sessions), 0) for shard in range(SHARDS)}
        seen = Situation.of({"a": node("a")}, Table(placement), 1, {"a": encode_loads(told)}, {})
        assert seen.weights_outdated() is forgets


def test_without_a_table_shards_stay_with_who_holds_them() -> None:
    nodes = {name: node(name) for name in "abc"}
    even = plan(NOBODY, {"a": 10, "b": 10, "c": 10}, budget=0).placement
    holders = {shard: name for shard, name in enumerate(even) if name is not None and shard % 10}
    seen = Situation.of(nodes, NO_TABLE, 0, {}, holders)
    wish = seen.plan(budget=0, may_drop_missing=True)
    assert seen.differs_from(wish)
    assert {shard: wish.placement[shard] for shard in holders} == holders
    assert None not in wish.placement


def test_the_table_survives_its_encoding() -> None:
    placement = plan(NOBODY, {"node-a": 3, "node-b": 2}, budget=0).placement
    with_gap = (None, *placement[1:])
    for table in (Table(with_gap, tuple(range(SHARDS))), Table(NOBODY)):
        assert decode_table(encode_table(table)) == table


def test_a_table_without_weights_knows_none() -> None:
    """As an earlier version wrote it."""
    placement = plan(NOBODY, {"node-a": 3, "node-b": 2}, budget=0).placement
    without_weights, _, _ = encode_table(Table(placement)).partition(b"\n\n")
    assert decode_table(without_weights) == Table(placement, UNKNOWN)


def test_an_earlier_version_reads_the_placement_of_a_table_with_weights() -> None:
    """It takes what follows two bytes a shard for lines with the nodes' ids."""
    value = encode_table(Table(("b", "a", *NOBODY[2:])))
    assert value[: 2 * SHARDS] == b"\0\1\0\0" + b"\xff\xff" * (SHARDS - 2)
    assert value[2 * SHARDS :].decode().split("\n")[:2] == ["a", "b"]
