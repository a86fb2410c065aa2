"""Which node should have which shard: pure, integers only, the same answer on every machine.

Consistent hashing with bounded load. Every node has a quota in proportion to its capacity; rendezvous order
(HRW: each pair of shard and node has a score, the highest wins) decides which shards move and where. What
need not move does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

Placement: TypeAlias = Sequence[str | None]
"""The node of each shard, by shard number; None where nobody has it."""

BAND_PER_MILLE = 20
"""A load this far off a node's share is left alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`deferred` counts moves for balance alone that the budget did not allow."""

    placement: tuple[str | None, ...]
    deferred: int


def plan(
    current: Placement, capacities: Mapping[str, int], *, budget: int, pinned: Collection[str] = ()
) -> Plan:
    """Places all shards of `current` on the nodes of `capacities` (in sessions, at least 1).

    Shards of `pinned` nodes, which are out of sight but not given up, stay where they are. Shards without a
    node, or with one that is neither, are placed anew; beyond that at most `budget` shards move, and only if
    some node's load is outside its band. Without any node to place on, nothing changes.
    """
    if not capacities:
        return Plan(tuple(current), 0)
    placement = list(current)
    held: dict[str, list[int]] = {node: [] for node in sorted(capacities)}
    homeless = []
    for shard, node in enumerate(current):
        if node in held:
            held[node].append(shard)
        elif node is None or node not in pinned:
            homeless.append(shard)
    total = len(homeless) + sum(map(len, held.values()))
    quotas = _quotas(total, capacities, {node: len(shards) for node, shards in held.items()})
    seeds = {node: _seed(node) for node in held}
    for shard in homeless:
        node = max(
            (node for node in held if len(held[node]) < quotas[node]),
            key=lambda name: _score(shard, seeds[name]),
        )
        placement[shard] = node
        held[node].append(shard)
    if all(low <= len(held[node]) <= high for node, (low, high) in _bands(total, capacities).items()):
        return Plan(tuple(placement), 0)
    moves = _balancing_moves(held, quotas, seeds)
    for shard, node in moves[:budget]:
        placement[shard] = node
    return Plan(tuple(placement), max(0, len(moves) - budget))


def _quotas(total: int, capacities: Mapping[str, int], loads: Mapping[str, int]) -> dict[str, int]:
    """Shares that add up to `total`: rounded up where that saves a move, then by remainder, else down."""
    weight = sum(capacities.values())
    shares = {node: divmod(total * capacity, weight) for node, capacity in capacities.items()}
    order = sorted(shares, key=lambda node: (loads[node] <= shares[node][0], -shares[node][1], node))
    spare = total - sum(whole for whole, _ in shares.values())
    return {node: shares[node][0] + (rank < spare) for rank, node in enumerate(order)}


def _bands(total: int, capacities: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Lowest and highest load each node may keep: its share +-2 %, at least the rounding either way."""
    weight = sum(capacities.values())
    bands = {}
    for node, capacity in capacities.items():
        share = total * capacity
        low = -(-share * (1000 - BAND_PER_MILLE) // (weight * 1000))
        high = share * (1000 + BAND_PER_MILLE) // (weight * 1000)
        bands[node] = min(low, share // weight), max(high, -(-share // weight))
    return bands


def _balancing_moves(
    held: Mapping[str, Sequence[int]], quotas: Mapping[str, int], seeds: Mapping[str, int]
) -> list[tuple[int, str]]:
    """`(shard, new node)` that bring every load to its quota: a taker gets those that score highest for it.

    The neediest taker comes first at each step, so that a budget that cuts the list short is spent evenly.
    """
    surplus = {node: len(held[node]) - quotas[node] for node in held if len(held[node]) > quotas[node]}
    needs = {node: quotas[node] - len(held[node]) for node in held if len(held[node]) < quotas[node]}
    candidates = {
        taker: sorted(
            ((_score(shard, seeds[taker]), shard, donor) for donor in surplus for shard in held[donor]),
        )
        for taker in needs
    }
    moved: set[int] = set()
    moves = []
    for _ in range(sum(needs.values())):
        taker = max(needs, key=lambda node: (needs[node], node))
        while True:
            _, shard, donor = candidates[taker].pop()
            if surplus[donor] and shard not in moved:
                break
        moved.add(shard)
        surplus[donor] -= 1
        needs[taker] -= 1
        moves.append((shard, taker))
    return moves


_MASK = (1 << 64) - 1


def _seed(node: str) -> int:
    return int.from_bytes(blake2b(node.encode(), digest_size=8).digest(), "big")


def _score(shard: int, seed: int) -> int:
    """A 64-bit mix (splitmix's finalizer) of shard and node."""
    x = (shard * 0x9E3779B97F4A7C15 + seed) & _MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)
