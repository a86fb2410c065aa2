"""The planner of shard ownership alone: how even its plans are, how few shards move, and what it costs.

Accounts are real ids hashed to shards. Time is CPU time of the planning thread, so that a busy machine shows
less in it.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

from bench.measuring.report import Report
from mesh_core.ids import SHARDS, Prefix, new_id, shard_of
from mesh_core.ownership.planning.fleet import scores
from mesh_core.ownership.planning.loads import weight_of
from mesh_core.ownership.planning.planner import Placement, plan

_NOBODY: Placement = (None,) * SHARDS
_ROUND = SHARDS // 8
_SMALL_ACCOUNTS, _LARGE_ACCOUNTS = 7_000, 1_000_000
_SMALL = {f"node-{number}": 5_000 for number in range(9)}


def run(quick: bool) -> Report:
    """Each figure is the worst (balance, moves) or the median (time) over several fleets, loads and nodes."""
    seeds = range(2 if quick else 6)
    small = [_Settled(_SMALL, _accounts(_SMALL_ACCOUNTS)) for _ in seeds]
    sessions = _accounts(_LARGE_ACCOUNTS)
    large = [_Settled(_unequal(seed), sessions) for seed in seeds]
    uniform = _Settled({f"node-{number}": 15_000 for number in range(100)}, sessions)
    empty = _Settled({f"node-{number}": 15_000 for number in range(100)}, [0] * SHARDS)
    fleets = [*small, *large, uniform, empty]
    changes = [change for fleet in fleets for change in _changes(fleet, 3 if quick else 10)]
    large_changes = [change for change in changes if len(change.before) > 50]
    join_ms, leave_ms = (
        statistics.median(change.ms for change in large_changes if change.joins is joins)
        for joins in (True, False)
    )
    steady_ms = statistics.median(fleet.steady_ms() for fleet in large)
    cold_ms = statistics.median(_cold_ms(change) for change in large_changes if not change.joins)
    first_ms = statistics.median(fleet.first_ms for fleet in large)
    return Report(
        "placement",
        {
            "max_over_mean_9_nodes": max(fleet.worst() for fleet in small),
            "max_over_mean_100_nodes": max(fleet.worst() for fleet in large),
            "moves_over_minimum": max(change.over_minimum for change in changes),
            "planner_ms_100_nodes": max(join_ms, leave_ms),
            "join_ms": join_ms,
            "leave_ms": leave_ms,
            "max_over_mean_after_join_or_leave": max(change.worst for change in changes),
        },
        notes=(
            f"Milliseconds of CPU at 100 nodes otherwise: nothing to do {steady_ms:.2f}, first plan from "
            f"nothing {first_ms:.0f}, a node leaves and this process never saw the fleet {cold_ms:.2f}.",
            f"{len(changes)} joins and leaves; {_SMALL_ACCOUNTS:,} accounts on 9 nodes, {_LARGE_ACCOUNTS:,} "
            "on 100 of 10,000, 15,000 or 20,000 sessions each; 100 equal nodes with and without accounts.",
        ),
    )


class _Settled:
    """A fleet that began empty and was planned again, as often as it took, when its accounts were there."""

    def __init__(self, capacities: Mapping[str, int], sessions: Sequence[int]) -> None:
        self.capacities = capacities
        self.sessions = sessions
        self.weights = [weight_of(count, 0) for count in sessions]
        self.placement = plan(_NOBODY, capacities, budget=0).placement
        while (after := self._plan(self.placement)) != self.placement:
            self.placement = after
        self.first_ms = _milliseconds(lambda: self._plan(_NOBODY))
        self.from_nothing = self._plan(_NOBODY)

    def worst(self) -> float:
        """Of the placement that came about, and of one planned from nothing."""
        return max(
            _max_over_mean(placement, self.capacities, self.sessions)
            for placement in (self.placement, self.from_nothing)
        )

    def steady_ms(self) -> float:
        return _milliseconds(lambda: self._plan(self.placement))

    def _plan(self, current: Placement) -> tuple[str | None, ...]:
        return plan(current, self.capacities, budget=_ROUND, weights=self.weights).placement


class _Change:
    """A node joins or leaves."""

    def __init__(self, before: _Settled, node: str, *, joins: bool) -> None:
        self.before = before.capacities
        self.joins = joins
        self.fleet = dict(before.capacities)
        if joins:
            self.fleet[node] = statistics.median_low(before.capacities.values())
        else:
            del self.fleet[node]
        self.current = before.placement
        self.weights = before.weights
        self.ms = _milliseconds(self.plan)
        after = self.plan()
        moved = [shard for shard in range(SHARDS) if after[shard] != self.current[shard]]
        self.over_minimum = sum(self.weights[shard] for shard in moved) / self._least(node)
        sessions = before.sessions if any(before.sessions) else self.weights
        self.worst = _max_over_mean(after, self.fleet, sessions)

    def plan(self) -> tuple[str | None, ...]:
        return plan(self.current, self.fleet, budget=SHARDS, weights=self.weights).placement

    def _least(self, node: str) -> float:
        """Weight that must move: what the leaver has; or the newcomer's share."""
        if self.joins:
            return sum(self.weights) * self.fleet[node] / sum(self.fleet.values())
        return sum(self.weights[shard] for shard in range(SHARDS) if self.current[shard] == node)


def _changes(fleet: _Settled, count: int) -> list[_Change]:
    leavers = sorted(fleet.capacities)[:count]
    return [_Change(fleet, f"newcomer-{number}", joins=True) for number in range(count)] + [
        _Change(fleet, node, joins=False) for node in leavers
    ]


def _accounts(count: int) -> list[int]:
    """How many accounts each shard has."""
    by_shard = Counter(shard_of(new_id(Prefix.ACCOUNT)) for _ in range(count))
    return [by_shard[shard] for shard in range(SHARDS)]


def _unequal(seed: int) -> dict[str, int]:
    random = Random(seed)
    return {f"node-{number}": random.choice([10_000, 15_000, 20_000]) for number in range(100)}


def _max_over_mean(placement: Placement, capacities: Mapping[str, int], sessions: Sequence[int]) -> float:
    """The most sessions that a node has for its share of the capacity."""
    loads = Counter[str | None]()
    for node, count in zip(placement, sessions, strict=True):
        loads[node] += count
    mean = sum(sessions) / sum(capacities.values())
    return max(loads[node] / (capacity * mean) for node, capacity in capacities.items())


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def _cold_ms(change: _Change) -> float:
    scores.cache_clear()
    return _milliseconds(change.plan)
