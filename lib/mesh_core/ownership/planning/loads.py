"""The weights of shards: each node publishes those of its own, `/<cluster>/loads/<node>` under its lease."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping

from mesh_core.etcd import Etcd
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import ClusterKeys
from mesh_core.ownership.planning.fleet import EMPTY_WEIGHT, SESSION_WEIGHT

MAX_WEIGHT = 0xFFFF

MESSAGES_PER_SESSION = 32
"""Messages per minute that weigh as much as a session.

A message costs its node about half a millisecond of CPU, so that some 25 a minute for each of 5,000 sessions,
the default capacity, use up a core.
"""

PERIOD = 60.0
"""Seconds between two looks at the loads, and so at least between two publications."""

FIRST_PERIOD = 2.0
"""The same until the first publication, which waits until the shards stay the same from one look to the next:
those of a node that has just started come in batches."""

_SMOOTHING = 8
"""Looks over which a rate of messages is averaged. A burst of some minutes should not move shards: that would
end streams twice, now and when it is over."""

_PUBLISHED_PER_MILLE = 10
"""A change by this share of the node's weight is published: half of what may move a shard."""

_PAIR = struct.Struct(">HH")


def weight_of(sessions: int, messages_per_minute: int) -> int:
    """The weight of a shard, by its accounts that want a session and its messages per minute.

    The weight of messages goes in steps, each twice the one before: traffic flickers.
    """
    busy = messages_per_minute // MESSAGES_PER_SESSION
    step = 1 << (busy.bit_length() - 1) if busy else 0
    return min(MAX_WEIGHT, EMPTY_WEIGHT + SESSION_WEIGHT * (sessions + step))


def encode_loads(weights: Mapping[int, int]) -> bytes:
    """Two bytes for each shard and two for its weight, big-endian, by shard."""
    return b"".join([_PAIR.pack(shard, weight) for shard, weight in sorted(weights.items())])


def decode_loads(value: bytes) -> dict[int, int]:
    """Weights by shard; what can be none is left out."""
    pairs = _PAIR.iter_unpack(value[: len(value) // _PAIR.size * _PAIR.size])
    return {shard: weight for shard, weight in pairs if shard < SHARDS}


class LoadReporter:
    """Publishes the weights of the shards that run on a node: seldom, and only when they changed enough.

    `read` gives for each shard that runs here, and whose accounts are loaded, how many accounts want a
    session (connected or not: an outage is no relief) and how many messages there were in the last minute.
    """

    def __init__(
        self, etcd: Etcd, keys: ClusterKeys, node_id: str, read: Callable[[], Mapping[int, tuple[int, int]]]
    ) -> None:
        self._etcd = etcd
        self._key = keys.load(node_id)
        self._read = read
        self._rates: dict[int, float] = {}
        self._weights: dict[int, int] = {}
        """What the others should know."""
        self._published: tuple[dict[int, int], int] = (self._weights, 0)
        """What they do know, and under which lease."""
        self._next_look = -math.inf

    async def step(self, now: float, lease: int) -> None:
        """Called at every round with the node's present lease (0: none); `now` is boottime.

        Raises `LeaseLost` and `EtcdUnavailable`; the next step tries again.
        """
        if now >= self._next_look:
            self._look(now)
        weights, published = self._weights, self._published
        if lease and weights and (published[0] is not weights or published[1] != lease):
            await self._etcd.put(self._key, encode_loads(weights), lease)
            self._published = (weights, lease)

    def _look(self, now: float) -> None:
        loads = self._read()
        settled = self._rates.keys() == loads.keys()
        for shard, (_, rate) in loads.items():
            average = self._rates.get(shard, rate)
            self._rates[shard] = average + (rate - average) / _SMOOTHING
        self._rates = {shard: self._rates[shard] for shard in loads}
        weights = {shard: weight_of(loads[shard][0], round(rate)) for shard, rate in self._rates.items()}
        known = self._weights
        self._next_look = now + PERIOD
        if known:
            if weights and _differs(known, weights):
                self._weights = weights
        elif settled:
            self._weights = weights
        if not self._weights:
            self._next_look = now + FIRST_PERIOD


def _differs(before: Mapping[int, int], after: Mapping[int, int]) -> bool:
    change = sum(abs(before.get(shard, 0) - after.get(shard, 0)) for shard in before.keys() | after.keys())
    return change * 1000 > _PUBLISHED_PER_MILLE * sum(after.values())
