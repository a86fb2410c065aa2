"""Waiting for a value to change."""

from __future__ import annotations

import asyncio

import pytest

from mesh_core.signal import Signal


async def turn() -> None:
    """Let every task that is ready run once."""
    await asyncio.sleep(0)


async def test_a_notification_wakes_everybody_who_waits() -> None:
    signal = Signal()
    waiting = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await turn()
    signal.notify()
    assert await asyncio.gather(*waiting) == [1, 1, 1]


async def test_waiting_is_for_the_next_notification_not_for_one_before() -> None:
    signal = Signal()
    signal.notify()
    waiting = asyncio.create_task(signal.wait())
    await turn()
    await turn()
    assert not waiting.done()
    signal.notify()
    assert await waiting == 2


async def test_who_looked_before_it_awaited_something_else_misses_nothing() -> None:
    signal = Signal()
    seen = signal.version
    signal.notify()
    assert await signal.wait(seen) == 1


async def test_a_predicate_that_is_true_already_needs_no_notification() -> None:
    assert await Signal().wait_until(lambda: "there") == "there"


async def test_a_predicate_is_looked_at_after_each_notification_until_it_is_true() -> None:
    signal, values = Signal(), [0]
    looks = 0

    def predicate() -> int | None:
        nonlocal looks
        looks += 1
        return values[0] if values[0] >= 2 else None

    waiting = asyncio.create_task(signal.wait_until(predicate))
    await turn()
    for value in (1, 2):
        values[0] = value
        signal.notify()
        await turn()
    assert await waiting == 2
    assert looks == 3


async def test_a_change_between_waking_and_looking_is_not_lost() -> None:
    signal, values = Signal(), {"ready": False}
    waiting = asyncio.create_task(signal.wait_until(lambda: values["ready"]))
    await turn()
    signal.notify()  # the waiter is woken, and has not looked yet
    values["ready"] = True
    signal.notify()
    assert await waiting is True


async def test_a_waiter_that_is_notified_while_it_looks_wakes_again() -> None:
    signal = Signal()
    wanted = asyncio.create_task(signal.wait_until(lambda: signal.version >= 2))
    await turn()
    for _ in range(2):
        signal.notify()
        await turn()
    assert await wanted is True


async def test_a_cancelled_waiter_leaves_the_others_waiting() -> None:
    signal = Signal()
    cancelled, stays = (asyncio.create_task(signal.wait()) for _ in range(2))
    await turn()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert cancelled.cancelled()
    assert not stays.done()
    signal.notify()
    assert await stays == 1


async def test_a_wait_is_limited_by_a_timeout() -> None:
    signal = Signal()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await signal.wait_until(lambda: False)
    signal.notify()  # nobody is left to wake


async def test_an_error_of_the_predicate_is_the_waiters() -> None:
    signal = Signal()

    def predicate() -> bool:
        if signal.version:
            raise LookupError("gone")
        return False

    waiting = asyncio.create_task(signal.wait_until(predicate))
    await turn()
    signal.notify()
    with pytest.raises(LookupError, match="gone"):
        await waiting
