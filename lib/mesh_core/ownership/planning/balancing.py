"""Moves for balance alone: as few as bring every node that is off back to its share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from mesh_core.ownership.planning.fleet import Fleet, scores

_PRECISION_BITS = 32
"""Binary digits after the point of a load divided by a capacity."""


class Balancing:
    """Moves shards within `fleet` until no node has too much or too little, or no move makes that better.

    `moves` are `(shard, new node)`, the most useful first, so that they may be cut off anywhere. The node
    that is furthest off its share is dealt with first. It takes or gives shards until it has its share, not
    only to the edge of its band, where the next account that comes or goes would put it outside again. Its
    partners are the nodes that stay closest to their own share. Of a donor's shards the one moves that scores
    highest for the taker.

    Every move makes the larger of two nodes' relative deviations smaller, so this ends; run again on its own
    result it moves nothing.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.moves: list[tuple[int, str]] = []
        self._fleet = fleet
        self._lightest = min(fleet.weights)
        self._choices: dict[str, dict[str, list[int]]] = {}
        """By donor and taker: the donor's shards by their score for the taker, the highest last."""
        self._now_at: dict[int, str] = {}

    def run(self) -> None:
        fleet = self._fleet
        before = -1
        while before < len(self.moves):
            before = len(self.moves)
            self._settle([name for name in fleet.names if fleet.has_too_little(name)], feeding=True)
            self._settle([name for name in fleet.names if fleet.has_too_much(name)], feeding=False)

    def _settle(self, off: list[str], *, feeding: bool) -> None:
        """Gives to (`feeding`) or takes from each of `off`, one shard at a time, while that helps."""
        if not off:
            return
        fleet = self._fleet
        partners = _Queue(fleet.names, self._as_donor if feeding else self._as_taker)
        queue = _Queue(off, self._worst_first)
        while (node := queue.pop()) is not None:
            need = fleet.deviation(node) * (-1 if feeding else 1)
            if self._lightest * fleet.capacity >= 2 * need:
                continue  # it would end further off on the other side
            tried = [node]
            while (partner := partners.pop()) is not None:
                donor, taker = (partner, node) if feeding else (node, partner)
                if partner != node and self._move(donor, taker, 2 * need):
                    partners.push(partner)
                    queue.push(node)
                    break
                tried.append(partner)
            for name in tried:
                partners.push(name)

    def _move(self, donor: str, taker: str, limit: int) -> bool:
        """Moves one shard, lighter than `limit` (times the total capacity), if any makes things better."""
        fleet = self._fleet
        too_heavy = limit  # if one weight does not help, no greater one does
        if not self._improves(donor, taker, self._lightest * fleet.capacity):
            return False
        choices = self._choices.setdefault(donor, {}).get(taker)
        if choices is None:
            choices = sorted(fleet.held[donor], key=scores(taker).__getitem__)
            self._choices[donor][taker] = choices
        for at in range(len(choices) - 1, -1, -1):
            shard = choices[at]
            weight = fleet.weights[shard] * fleet.capacity
            if self._now_at.get(shard, donor) != donor:
                del choices[at]
            elif weight >= too_heavy:
                continue
            elif self._improves(donor, taker, weight):
                del choices[at]
                fleet.move(shard, donor, taker)
                self._now_at[shard] = taker
                self._choices.pop(taker, None)  # it has one more to give
                self.moves.append((shard, taker))
                return True
            else:
                too_heavy = weight
        return False

    def _improves(self, donor: str, taker: str, weight: int) -> bool:
        """Whether the worse of two relative deviations gets smaller."""
        fleet = self._fleet
        giving, taking = fleet.deviation(donor), fleet.deviation(taker)
        # a deviation relative to its own capacity: times the other's instead
        of_donor, of_taker = fleet.capacities[taker], fleet.capacities[donor]
        before = max(abs(giving) * of_donor, abs(taking) * of_taker)
        return max(abs(giving - weight) * of_donor, abs(taking + weight) * of_taker) < before

    # --- orders: the least comes first

    def _worst_first(self, name: str) -> tuple[int, int, str]:
        fleet = self._fleet
        return 0, -((abs(fleet.deviation(name)) << _PRECISION_BITS) // fleet.capacities[name]), name

    def _as_donor(self, name: str) -> tuple[int, int, str]:
        """Those with too much, the fullest first; then who has most left after giving."""
        fleet = self._fleet
        load, capacity = fleet.loads[name], fleet.capacities[name]
        if fleet.has_too_much(name):
            return 0, -((load << _PRECISION_BITS) // capacity), name
        return 1, -(((load - fleet.typical) << _PRECISION_BITS) // capacity), name

    def _as_taker(self, name: str) -> tuple[int, int, str]:
        """Those with too little, the emptiest first; then who has least after taking."""
        fleet = self._fleet
        load, capacity = fleet.loads[name], fleet.capacities[name]
        if fleet.has_too_little(name):
            return 0, (load << _PRECISION_BITS) // capacity, name
        return 1, ((load + fleet.typical) << _PRECISION_BITS) // capacity, name


class _Queue:
    """Names in the order of a key that changes: push a name again when its key did."""

    def __init__(self, names: Iterable[str], key: Callable[[str], tuple[int, int, str]]) -> None:
        self._key = key
        self._heap = [key(name) for name in names]
        heapify(self._heap)

    def push(self, name: str) -> None:
        heappush(self._heap, self._key(name))

    def pop(self) -> str | None:
        """The first name, or None. Outdated entries are passed over."""
        while self._heap:
            entry = heappop(self._heap)
            if entry == self._key(entry[2]):
                return entry[2]
        return None
