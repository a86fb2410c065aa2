"""What comes at once on one connection leaves turns of the loop to others, and is handled in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast
from unittest.mock import Mock

import pytest

from mesh_session_node.drivers.simulated.intake import MOST_UNSTORED, MOST_WAITING, Intake
from tests.support.eventually import eventually

MANY = [str(number).encode() for number in range(2 * MOST_WAITING)]


def _slowly(came: list[bytes]) -> Callable[[bytes], None]:
    """More of them than one turn has time for."""

    def take(frame: bytes) -> None:
        came.append(frame)
        time.sleep(0.0005)  # as work does, which nobody else's turn interrupts

    return take


async def test_what_comes_at_once_is_handled_some_in_each_turn_and_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    came: list[bytes] = []
    monkeypatch.setattr(time, "perf_counter", lambda: len(came) * 0.0004)  # each takes so long
    intake = Intake(came.append)
    intake.add(MANY)
    most = before = 0
    while len(came) < len(MANY):
        most, before = max(most, len(came) - before), len(came)
        await asyncio.sleep(0)
    assert came == MANY
    assert most == 3


async def test_nothing_is_read_while_much_waits() -> None:
    came: list[bytes] = []
    intake = Intake(_slowly(came))
    transport = Mock(asyncio.Transport)
    transport.is_closing.return_value = False
    intake.begin(cast(asyncio.Transport, transport))
    intake.add(MANY)
    transport.pause_reading.assert_called_once()
    await eventually(lambda: len(came) == len(MANY))
    transport.resume_reading.assert_called_once()


async def test_messages_wait_until_those_before_them_are_stored() -> None:
    came: list[bytes] = []

    def take(frame: bytes) -> None:
        came.append(frame)
        intake.taken()

    intake = Intake(take)
    intake.add(MANY[: 2 * MOST_UNSTORED])
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(came) == MOST_UNSTORED
    for _ in range(MOST_UNSTORED):
        intake.stored()
    await eventually(lambda: len(came) == 2 * MOST_UNSTORED)


async def test_the_end_of_the_connection_is_heard_with_all_that_came_before_it() -> None:
    came: list[bytes] = []
    intake = Intake(_slowly(came))
    intake.add(MANY[:100])
    assert len(came) < 100
    intake.end()
    assert came == MANY[:100]
