"""The nodes of a plan with what they carry: pure, integers only, the same answers on every machine."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import shake_128

from mesh_core.ids import SHARDS

EMPTY_WEIGHT = 1
"""Of a shard without accounts.

Not nothing, so that a new cluster is even by number of shards, and so are the places of accounts to come. And
as little as can be, for empty shards must not seem to make up for accounts: at 7,000 accounts on 9 nodes they
are 4 % of a node's load, so that a load within its band means accounts within 2.5 % of their share.
"""

SESSION_WEIGHT = 16
"""Of one account that wants a session; capacities count such accounts."""

BAND_PER_MILLE = 20
"""A load this far off its node's share is left alone."""

SLACK_SESSIONS = 16
"""Nor is it worth ending streams to spread so few sessions better, as long as the shards are spread evenly by
number; on a small node a sixteenth of its capacity. At 7,000 accounts on 9 nodes that is the band. Without it
each of the first accounts of a small mesh, and later chance alone, would keep moving shards.
"""


class Fleet:
    """Which shards each eligible node has, and how far that is from its share.

    `capacities` in sessions, at least 1; `weights` by shard, at least 1. A node's share is the part of the
    weight of all shards here, `unassigned` ones included, that its capacity is of all capacity. Deviations
    are weights times the total capacity, which makes them whole numbers.
    """

    def __init__(
        self,
        capacities: Mapping[str, int],
        held: Mapping[str, list[int]],
        unassigned: Sequence[int],
        weights: Sequence[int],
    ) -> None:
        self.names = sorted(capacities)
        self.capacities = {name: capacities[name] for name in self.names}
        self.weights = weights
        self.held = {name: held.get(name, []) for name in self.names}
        self.loads = {name: total(weights, shards) for name, shards in self.held.items()}
        self.capacity = sum(capacities.values())
        self.load = sum(self.loads.values()) + total(weights, unassigned)
        self._shards = sum(map(len, self.held.values())) + len(unassigned)
        self.typical = self.load // max(1, self._shards)
        """Weight of a shard, on average."""
        self._least = {name: self._lower_bound(self.load * capacities[name]) for name in self.names}
        self._most = {name: self._upper_bound(self.load * capacities[name]) for name in self.names}

    @property
    def over_capacity(self) -> bool:
        """There are more sessions, or messages that weigh as much, than all nodes have room for."""
        return self.load - EMPTY_WEIGHT * self._shards > SESSION_WEIGHT * self.capacity

    def room(self, name: str) -> int:
        """What the node can take without exceeding its share; below 0 when it already does."""
        return self.load * self.capacities[name] // self.capacity - self.loads[name]

    def deviation(self, name: str) -> int:
        """How far the load is above (below: negative) its share."""
        return self.loads[name] * self.capacity - self.load * self.capacities[name]

    def has_too_little(self, name: str) -> bool:
        """Whether shards should move here: the load is below its band, and by a shard at least."""
        return self.loads[name] < self._least[name] and not self._is_trifle(name)

    def has_too_much(self, name: str) -> bool:
        """Whether shards should move away: the load is above its band."""
        return self.loads[name] > self._most[name] and not self._is_trifle(name)

    def put(self, shard: int, name: str) -> None:
        self.held[name].append(shard)
        self.loads[name] += self.weights[shard]

    def move(self, shard: int, donor: str, taker: str) -> None:
        self.held[donor].remove(shard)
        self.loads[donor] -= self.weights[shard]
        self.put(shard, taker)

    def _lower_bound(self, share: int) -> int:
        in_band = -(-share * (1000 - BAND_PER_MILLE) // (self.capacity * 1000))
        return min(in_band, share // self.capacity - self.typical + 1)

    def _upper_bound(self, share: int) -> int:
        return share * (1000 + BAND_PER_MILLE) // (self.capacity * 1000)

    def _is_trifle(self, name: str) -> bool:
        """The deviation is within the slack, and the shards are even by number (or as even as can be)."""
        capacity = self.capacities[name]
        slack = min(SLACK_SESSIONS * SESSION_WEIGHT, capacity) * self.capacity
        if abs(self.deviation(name)) > slack:
            return False
        share = self._shards * capacity
        deviation = abs(len(self.held[name]) * self.capacity - share)
        return deviation * 1000 <= BAND_PER_MILLE * share or deviation < self.capacity


def total(weights: Sequence[int], shards: Sequence[int]) -> int:
    """The weight of some shards together."""
    return sum(map(weights.__getitem__, shards))


def heaviest_first(weights: Sequence[int], shards: Sequence[int]) -> list[int]:
    """Equal ones by number."""
    return [shard for _, shard in sorted([(-weights[shard], shard) for shard in shards])]


@lru_cache(maxsize=1024)
def scores(name: str) -> array[int]:
    """The node's rendezvous score for each shard (HRW: for each shard some node has the highest)."""
    row = array("I", shake_128(name.encode()).digest(4 * SHARDS))
    if sys.byteorder == "big":
        row.byteswap()
    return row
