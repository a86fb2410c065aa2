"""When the Python client tries again."""

from __future__ import annotations

import asyncio

import pytest
from grpc import StatusCode

from mesh_client import MeshCallError, NotFound, Unavailable
from mesh_client.retries import MAX_RETRIES, Attempts, RetryBudget, Unreachable, backoff, pause_before


def unavailable(reason: str = "", retry_after: float | None = None) -> Unavailable:
    return Unavailable(StatusCode.UNAVAILABLE, "", reason, retry_after=retry_after)


def highest() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("attempt", "error", "pause"),
    [
        (0, NotFound(StatusCode.NOT_FOUND, ""), None),
        (0, unavailable(), 0.05),
        (1, unavailable(), 0.2),
        (2, unavailable(), 0.4),
        (7, unavailable(), 3.0),
        (MAX_RETRIES, unavailable(), None),
        (0, Unreachable(StatusCode.UNAVAILABLE, ""), 0.1),
        (0, unavailable("BACKEND_UNAVAILABLE"), None),
        (0, unavailable("BACKEND_UNAVAILABLE", 0.5), 0.5),
        (3, unavailable("BACKEND_UNAVAILABLE", 0.5), 0.8),
        (0, unavailable("GOING_AWAY"), 0.05),
    ],
)
def test_a_failure_is_waited_out_as_long_as_the_mesh_says_or_longer_each_time(
    attempt: int, error: MeshCallError, pause: float | None
) -> None:
    assert pause_before(attempt, error, highest) == pause


def test_waits_differ_by_half() -> None:
    assert backoff(3, lambda: 0.0) == backoff(3, highest) / 2
    assert backoff(10_000, highest) == 3.0


def test_the_budget_is_a_fifth_of_what_succeeds_and_what_was_saved() -> None:
    budget = RetryBudget(clock=lambda: 0.0)
    assert sum(budget.spend() for _ in range(100)) == 20
    for _ in range(1000):
        budget.earn()
    assert 199 <= sum(budget.spend() for _ in range(1000)) <= 200
    for _ in range(100_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == 500


@pytest.mark.parametrize("reason", ["", "NOT_OWNER", "GOING_AWAY"])
async def test_a_call_that_finds_its_account_moved_is_repeated_once_beyond_the_budget(reason: str) -> None:
    budget = RetryBudget(clock=lambda: 0.0)
    while budget.spend():
        pass
    attempts = Attempts(budget, asyncio.get_running_loop().time() + 60, repeatable=True)
    moved = unavailable(reason, retry_after=0.0)
    assert await attempts.pause(moved)
    assert not await attempts.pause(moved)


async def test_a_mesh_that_is_busy_is_not_asked_again_beyond_the_budget() -> None:
    budget = RetryBudget(clock=lambda: 0.0)
    while budget.spend():
        pass
    attempts = Attempts(budget, asyncio.get_running_loop().time() + 60, repeatable=True)
    assert not await attempts.pause(unavailable("BACKEND_UNAVAILABLE", retry_after=0.0))


def test_a_quiet_client_saves_up_again() -> None:
    now = 0.0
    budget = RetryBudget(clock=lambda: now)
    while budget.spend():
        pass
    now += 5
    assert sum(budget.spend() for _ in range(100)) == 5
    now += 3600
    assert sum(budget.spend() for _ in range(100)) == 20
