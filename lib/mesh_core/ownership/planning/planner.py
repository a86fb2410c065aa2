"""Which node should have which shard: pure, integers only, the same answer on every machine.

Consistent hashing with bounded load. Every node has a share of the weight of all shards in proportion to its
capacity; rendezvous order (HRW: each pair of shard and node has a score, the highest wins) decides which
shards move and where. What need not move does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from mesh_core.ownership.planning.balancing import Balancing
from mesh_core.ownership.planning.fleet import EMPTY_WEIGHT, Fleet, heaviest_first, scores

Placement: TypeAlias = Sequence[str | None]
"""The node of each shard, by shard number; None where nobody has it."""

NO_NODE = "no node may own shards"
OVER_CAPACITY = "there is more load than capacity"


@dataclass(frozen=True, slots=True)
class Plan:
    """`deferred` counts moves for balance alone that the budget did not allow; unknown, and 0, where that is
    0 and nothing is placed anew.

    `refusing` is why the cluster should take no more accounts: `NO_NODE` (nothing was planned),
    `OVER_CAPACITY` (planned all the same: every shard must be owned), or empty.
    """

    placement: tuple[str | None, ...]
    deferred: int
    refusing: str = ""


def plan(
    current: Placement,
    capacities: Mapping[str, int],
    *,
    budget: int,
    weights: Sequence[int] | None = None,
    pinned: Collection[str] = (),
    replacements: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Places all shards of `current` on the nodes of `capacities` (in sessions, at least 1).

    `weights` by shard, as `planning.loads.weight_of` makes them; None: all are equal. Shards of
    `pinned` nodes, which are out of sight but not given up, stay where they are. Those of a node in
    `replacements` all go to the node it names there, if that one may own shards. Other shards without a node
    that may own them are placed anew. Beyond that at most `budget` shards move, none while a node is being
    replaced, and only if some node's load is off. Without any node to place on, nothing changes.
    """
    if not capacities:
        return Plan(tuple(current), 0, NO_NODE)
    if weights is None:
        weights = (EMPTY_WEIGHT,) * len(current)
    held: defaultdict[str | None, list[int]] = defaultdict(list)
    for shard, node in enumerate(current):
        held[node].append(shard)
    placement = list(current)
    for old, new in sorted(replacements.items()):
        if new in capacities and old not in capacities and old in held:
            budget = 0
            moved = held.pop(old)
            held[new] += moved
            for shard in moved:
                placement[shard] = new
    gone = held.keys() - capacities.keys() - {*pinned}
    unassigned = sorted([shard for node in gone for shard in held[node]])
    fleet = Fleet(capacities, {node: held[node] for node in capacities}, unassigned, weights)
    refusing = OVER_CAPACITY if fleet.over_capacity else ""
    for shard, node in _assign(fleet, unassigned):
        placement[shard] = node
    balancing = Balancing(fleet)
    if budget or unassigned:  # else no move would be carried out
        balancing.run()
    deferred = _carry_out(balancing.moves, placement, {*unassigned}, budget)
    return Plan(tuple(placement), deferred, refusing)


def _assign(fleet: Fleet, unassigned: Sequence[int]) -> list[tuple[int, str]]:
    """Gives each shard to the node that scores highest for it among those with room for it.

    Shards that no node has room for come last. Each goes to the node whose load is lowest with it, nodes with
    too little load first, so that balancing need not move it there later.

    Shards far heavier than most come first, while there is room. The others come by number and not by weight:
    with the heavy ones first, a node that gets more of them by chance would get fewer empty ones instead.
    """
    if not unassigned:
        return []
    weights, unusual = fleet.weights, 4 * fleet.typical
    lightest = min([weights[shard] for shard in unassigned])
    names = [name for name in fleet.names if fleet.room(name) >= lightest]
    rows, rooms = [scores(name) for name in names], [fleet.room(name) for name in names]
    assigned, left = [], []
    for shard in sorted(unassigned, key=lambda shard: (-(weights[shard] // unusual), shard)):
        weight = weights[shard]
        column = [row[shard] for row in rows]
        for _ in rows:
            best = column.index(max(column))
            if rooms[best] >= weight:
                break
            column[best] = -1
        else:
            left.append(shard)
            continue
        fleet.put(shard, names[best])
        assigned.append((shard, names[best]))
        rooms[best] -= weight
        if rooms[best] < lightest:
            del names[best], rows[best], rooms[best]
    needy = fleet.names
    for shard in heaviest_first(weights, left):
        needy = [name for name in needy if fleet.has_too_little(name)]
        name = _least_loaded_with(fleet, shard, needy or fleet.names)
        fleet.put(shard, name)
        assigned.append((shard, name))
    return assigned


def _least_loaded_with(fleet: Fleet, shard: int, names: Sequence[str]) -> str:
    """The node whose load would be lowest for its capacity; of several the one that scores highest."""
    weight, loads, capacities = fleet.weights[shard], fleet.loads, fleet.capacities
    levels = [((loads[name] + weight) << 32) // capacities[name] for name in names]
    lowest = min(levels)
    equal = [name for name, level in zip(names, levels, strict=True) if level == lowest]
    if len(equal) == 1:
        return equal[0]
    wishes = [scores(name)[shard] for name in equal]
    return equal[wishes.index(max(wishes))]


def _carry_out(
    moves: Sequence[tuple[int, str]], placement: list[str | None], unassigned: Collection[int], budget: int
) -> int:
    """Makes the moves in order until the budget is used up; returns how many shards have to wait.

    A shard that was unassigned, or moves a second time, costs nothing.
    """
    paid: set[int] = set()
    waiting: set[int] = set()
    for shard, node in moves:
        if waiting or (shard not in unassigned and shard not in paid and len(paid) == budget):
            waiting.add(shard)
        else:
            placement[shard] = node
            if shard not in unassigned:
                paid.add(shard)
    return len(waiting)
