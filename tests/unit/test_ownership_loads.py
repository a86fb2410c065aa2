"""What nodes tell of their shards' loads, and when."""

from __future__ import annotations

import pytest

from mesh_core.etcd import Etcd, EtcdUnavailable
from mesh_core.ownership.keys import ClusterKeys
from mesh_core.ownership.planning.fleet import EMPTY_WEIGHT, SESSION_WEIGHT
from mesh_core.ownership.planning.loads import (
    FIRST_PERIOD,
    MAX_WEIGHT,
    MESSAGES_PER_SESSION,
    PERIOD,
    LoadReporter,
    decode_loads,
    encode_loads,
    weight_of,
)


class Store(Etcd):
    """Takes what is put, or is away."""

    def __init__(self) -> None:
        self.puts: list[tuple[dict[int, int], int]] = []
        self.away = False

    async def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        if self.away:
            raise EtcdUnavailable("away")
        assert key == b"/c/loads/a"
        self.puts.append((decode_loads(value), lease))
        return len(self.puts)


class Stage:
    """A reporter whose loads the test sets."""

    def __init__(self) -> None:
        self.store = Store()
        self.loads: dict[int, tuple[int, int]] = {}
        self.reporter = LoadReporter(self.store, ClusterKeys("c"), "a", lambda: self.loads)

    async def run(self, start: float, end: float, lease: int = 1) -> None:
        """Steps every second."""
        for now in range(int(start), int(end) + 1):
            await self.reporter.step(float(now), lease)


def test_weight_grows_by_sessions() -> None:
    assert [weight_of(sessions, 0) - EMPTY_WEIGHT for sessions in (0, 1, 10)] == [
        0,
        SESSION_WEIGHT,
        10 * SESSION_WEIGHT,
    ]


def test_traffic_weighs_in_steps_that_double() -> None:
    rates = [0, 31, 32, 63, 64, 127, 128, 1000]
    sessions = [
        (weight_of(0, rate * MESSAGES_PER_SESSION // 32) - EMPTY_WEIGHT) // SESSION_WEIGHT for rate in rates
    ]
    assert sessions == [0, 0, 1, 1, 2, 2, 4, 16]


def test_no_weight_exceeds_two_bytes() -> None:
    assert weight_of(1_000_000, 0) == MAX_WEIGHT


def test_loads_take_four_bytes_a_shard() -> None:
    weights = {4095: 65535, 0: 3}
    assert decode_loads(encode_loads(weights)) == weights
    assert encode_loads(weights) == bytes.fromhex("00000003 0fffffff")


async def test_the_first_report_waits_until_the_shards_are_all_there() -> None:
    stage = Stage()
    await stage.run(0, 4)
    stage.loads = {1: (1, 0)}
    await stage.run(5, 6)
    stage.loads = {1: (1, 0), 2: (0, 0)}
    await stage.run(7, 8)
    assert stage.store.puts == []
    await stage.run(9, 9 + 2 * FIRST_PERIOD)
    assert stage.store.puts == [({1: weight_of(1, 0), 2: weight_of(0, 0)}, 1)]


async def test_a_change_is_reported_once_a_period_at_most() -> None:
    stage = Stage()
    stage.loads = {1: (1, 0)}
    await stage.run(0, 10)
    for sessions in range(10, 20):
        stage.loads = {1: (sessions, 0)}
        await stage.run(sessions, sessions)
    assert len(stage.store.puts) == 1
    await stage.run(20, 10 + PERIOD)
    assert stage.store.puts[1:] == [({1: weight_of(19, 0)}, 1)]


async def test_a_change_that_does_not_matter_is_not_reported() -> None:
    stage = Stage()
    stage.loads = dict.fromkeys(range(100), (2, 0))
    await stage.run(0, 10)
    stage.loads[0] = (3, 0)
    await stage.run(11, 10 + 3 * PERIOD)
    assert len(stage.store.puts) == 1


async def test_a_burst_of_messages_hardly_counts_a_steady_stream_does() -> None:
    stage = Stage()
    stage.loads = {1: (100, 0)}
    await stage.run(0, 10)
    stage.loads = {1: (100, 8 * MESSAGES_PER_SESSION)}
    await stage.run(11, 10 + PERIOD)
    assert [weights for weights, _ in stage.store.puts] == [{1: weight_of(100, 0)}]
    await stage.run(11 + PERIOD, 30 * PERIOD)
    assert stage.store.puts[-1][0][1] >= weight_of(104, 0)


async def test_a_new_lease_gets_the_report_at_once() -> None:
    stage = Stage()
    stage.loads = {1: (1, 0)}
    await stage.run(0, 10)
    await stage.run(11, 12, lease=0)
    await stage.run(13, 13, lease=2)
    assert stage.store.puts == [({1: weight_of(1, 0)}, 1), ({1: weight_of(1, 0)}, 2)]


async def test_what_could_not_be_written_is_written_later() -> None:
    stage = Stage()
    stage.loads = {1: (1, 0)}
    stage.store.away = True
    with pytest.raises(EtcdUnavailable):
        await stage.run(0, 10)
    stage.store.away = False
    await stage.run(11, 11)
    assert len(stage.store.puts) == 1


def test_loads_that_no_node_would_publish_say_nothing() -> None:
    assert decode_loads(b"\xff\xff\x00\x01" + encode_loads({3: 7}) + b"\x00") == {3: 7}
