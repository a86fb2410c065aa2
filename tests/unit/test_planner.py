"""The planner and the table by example."""

from __future__ import annotations

from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.planner import Plan, plan
from mesh_core.ownership.table import EQUAL, NOBODY, Situation, Table, decode_table, encode_table

ALL = 10 * SHARDS


def loads(placement: Plan) -> dict[str | None, int]:
    return {node: placement.placement.count(node) for node in sorted(set(placement.placement), key=str)}


def moved(before: Plan, after: Plan) -> list[int]:
    pairs = enumerate(zip(before.placement, after.placement, strict=True))
    return [shard for shard, (old, new) in pairs if old != new]


def node(name: str, state: NodeState = NodeState.ACTIVE, capacity: int = 10) -> NodeInfo:
    return NodeInfo(id=name, incarnation=f"{name}-1", address=f"{name}:1", capacity=capacity, state=state)


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


def test_without_any_node_nothing_changes() -> None:
    before = plan(NOBODY, {"a": 1}, budget=0).placement
    assert plan(before, {}, budget=ALL).placement == before


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


def test_the_table_survives_its_encoding() -> None:
    placement = plan(NOBODY, {"node-a": 3, "node-b": 2}, budget=0).placement
    with_gap = (None, *placement[1:])
    for table in (Table(with_gap, tuple(range(SHARDS))), Table(NOBODY)):
        assert decode_table(encode_table(table)) == table


def test_a_table_without_weights_has_equal_ones() -> None:
    """As an earlier version wrote it."""
    placement = plan(NOBODY, {"node-a": 3, "node-b": 2}, budget=0).placement
    without_weights, _, _ = encode_table(Table(placement)).partition(b"\n\n")
    assert decode_table(without_weights) == Table(placement, EQUAL)


def test_an_earlier_version_reads_the_placement_of_a_table_with_weights() -> None:
    """It takes what follows two bytes a shard for lines with the nodes' ids."""
    value = encode_table(Table(("b", "a", *NOBODY[2:])))
    assert value[: 2 * SHARDS] == b"\0\1\0\0" + b"\xff\xff" * (SHARDS - 2)
    assert value[2 * SHARDS :].decode().split("\n")[:2] == ["a", "b"]
