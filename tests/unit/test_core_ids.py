"""Ids rise: in a process whose clock steps back, and behind those of one whose clock was ahead."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from mesh_core import ids
from mesh_core.ids import AHEAD, follow, new_uuid

NOW = time.time_ns()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(ids, "_latest", 0)
    set_clock(monkeypatch, timedelta())
    return monkeypatch


def set_clock(clock: pytest.MonkeyPatch, ahead: timedelta) -> None:
    clock.setattr(time, "time_ns", lambda: NOW + int(ahead.total_seconds() * 1e9))


def test_ids_of_one_moment_rise() -> None:
    made = [new_uuid() for _ in range(5_000)]
    assert sorted(made) == made


def test_ids_rise_when_the_clock_steps_back_a_little(clock: pytest.MonkeyPatch) -> None:
    before = new_uuid()
    set_clock(clock, -AHEAD / 2)
    assert new_uuid() > before


def test_ids_do_not_follow_a_clock_that_was_wrong(clock: pytest.MonkeyPatch) -> None:
    before = new_uuid()
    set_clock(clock, -2 * AHEAD)
    assert new_uuid() < before


def test_ids_are_behind_those_of_a_clock_that_is_ahead(clock: pytest.MonkeyPatch) -> None:
    set_clock(clock, AHEAD / 2)
    others = new_uuid()
    clock.setattr(ids, "_latest", 0)
    set_clock(clock, timedelta())
    assert new_uuid() < others

    follow(others)

    assert new_uuid() > others


def test_ids_do_not_follow_one_that_is_far_ahead(clock: pytest.MonkeyPatch) -> None:
    set_clock(clock, 2 * AHEAD)
    others = new_uuid()
    clock.setattr(ids, "_latest", 0)
    set_clock(clock, timedelta())

    follow(others)

    assert new_uuid() < others
