"""When a shaped connection's bytes are written, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from mesh_simulator.accounts.account import Effects
from mesh_simulator.connections.shaper import TrafficShaper


class Clock:
    """An event loop as far as the shaper needs one."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[..., Any]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[..., Any]) -> asyncio.TimerHandle:
        entry = self.now + delay, call
        self._due.append(entry)

        class Handle:
            def cancel(_self) -> None:
                self._due.remove(entry)

        return cast(asyncio.TimerHandle, Handle())

    def advance_to(self, now: float) -> None:
        while self._due and min(self._due, key=lambda one: one[0])[0] <= now:
            entry = min(self._due, key=lambda one: one[0])
            self._due.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = now


class Transport:
    """A transport that notes what was written and whether it reads."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False


class Shaped:
    """A shaper with its clock and transport."""

    def __init__(self) -> None:
        self.clock, self.transport = Clock(), Transport()
        self.shaper = TrafficShaper(
            cast(asyncio.Transport, self.transport), cast(asyncio.AbstractEventLoop, self.clock)
        )

    def written_at(self, now: float) -> list[bytes]:
        self.clock.advance_to(now)
        return self.transport.written


@pytest.fixture
def shaped() -> Shaped:
    return Shaped()


def test_latency_delays_every_write_by_the_same(shaped: Shaped) -> None:
    shaped.shaper.apply(Effects(latency=1.0))
    shaped.shaper.write(b"first")
    shaped.clock.advance_to(0.5)
    shaped.shaper.write(b"second")
    assert shaped.written_at(0.9) == []
    assert shaped.written_at(1.0) == [b"first"]
    assert shaped.written_at(1.4) == [b"first"]
    assert shaped.written_at(1.5) == [b"first", b"second"]


def test_bandwidth_delays_a_write_until_all_bytes_before_it_are_through(shaped: Shaped) -> None:
    shaped.shaper.apply(Effects(bandwidth=10.0))
    shaped.shaper.write(bytes(10))
    shaped.shaper.write(bytes(5))
    assert shaped.written_at(0.9) == []
    assert shaped.written_at(1.0) == [bytes(10)]
    assert shaped.written_at(1.5) == [bytes(10), bytes(5)]


def test_bandwidth_pauses_reading_for_as_long_as_the_bytes_take(shaped: Shaped) -> None:
    shaped.shaper.apply(Effects(bandwidth=10.0))
    shaped.shaper.received(20)
    assert not shaped.transport.reading
    shaped.clock.advance_to(2.0)
    assert shaped.transport.reading


def test_a_stall_holds_everything_until_it_ends(shaped: Shaped) -> None:
    shaped.shaper.apply(Effects(stalled=True))
    shaped.shaper.write(b"held")
    assert shaped.written_at(3600) == []
    assert not shaped.transport.reading
    shaped.shaper.apply(Effects())
    assert shaped.transport.written == [b"held"]
    assert shaped.transport.reading


def test_what_was_delayed_keeps_its_place_when_the_fault_ends(shaped: Shaped) -> None:
    shaped.shaper.apply(Effects(latency=1.0))
    shaped.shaper.write(b"late")
    shaped.shaper.apply(Effects())
    shaped.shaper.write(b"prompt")
    assert shaped.transport.written == []
    assert shaped.written_at(1.0) == [b"late", b"prompt"]
