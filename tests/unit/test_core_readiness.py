"""When a part counts as ready: at first, in an outage, and once that is over."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from mesh_core.rpc.server import readiness
from mesh_core.rpc.server.readiness import GRACE_SECONDS, Need, Readiness
from tests.support.eventually import eventually

AWAY = "Postgres does not answer"


class Postgres:
    """A server that is asked, and answers or not."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        self.frozen = False

    async def check(self) -> str:
        if self.frozen:
            await asyncio.Event().wait()
        return self.reason


class Part:
    """A part that needs it, and what it told of its readiness."""

    def __init__(self, *needed: Postgres) -> None:
        self.told: list[str] = []
        self.readiness = Readiness(lambda: self.told.append(self.readiness.reason))
        for postgres in needed:
            self.readiness.need("Postgres", postgres.check)


def seen(*looks: tuple[float, str]) -> Need:
    need = Need("Postgres", Postgres().check)
    for at, reason in looks:
        need.seen(reason, at)
    return need


@pytest.mark.parametrize(
    ("looks", "now", "counts"),
    [
        ([], 0, True),
        ([(0, AWAY)], 0, True),
        ([(0, "")], 0, False),
        ([(0, ""), (1, AWAY)], 10.9, False),
        ([(0, ""), (1, AWAY)], 11, True),
        ([(0, ""), (1, AWAY), (9, AWAY)], 11, True),
        ([(0, ""), (1, AWAY), (9, ""), (10, AWAY)], 19, False),
        ([(0, ""), (1, AWAY), (30, "")], 30, False),
    ],
    ids=["unseen", "never met", "met", "short", "long", "on and on", "anew", "over"],
)
def test_an_outage_counts_after_ten_seconds_and_at_once_when_a_need_was_never_met(
    looks: list[tuple[float, str]], now: float, counts: bool
) -> None:
    assert GRACE_SECONDS == 10
    assert seen(*looks).counts(now) is counts


async def test_a_part_is_ready_once_all_that_it_needs_is_there() -> None:
    first, second = Postgres(), Postgres(AWAY)
    part = Part(first, second)
    await part.readiness.look()
    assert (part.readiness.reason, part.readiness.started, part.told) == (AWAY, False, [])
    second.reason = ""
    await part.readiness.look()
    assert (part.readiness.reason, part.readiness.started, part.told) == ("", True, [""])


async def test_a_part_that_needs_nothing_is_ready() -> None:
    assert Part().readiness.started


async def test_an_outage_is_told_and_logged_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "GRACE_SECONDS", 0.0)
    postgres = Postgres()
    part = Part(postgres)
    await part.readiness.look()
    with capture_logs() as logs:
        for reason in (AWAY, AWAY, "", ""):
            postgres.reason = reason
            await part.readiness.look()
    assert part.told == ["", AWAY, ""]
    assert [(entry["event"], entry.get("reason")) for entry in logs] == [("not ready", AWAY), ("ready", None)]
    assert part.readiness.started


async def test_what_does_not_answer_in_time_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "ANSWER_SECONDS", 0.0)
    postgres = Postgres()
    postgres.frozen = True
    part = Part(postgres)
    await part.readiness.look()
    assert part.readiness.reason == AWAY


async def test_a_part_that_does_not_become_ready_says_why_in_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "GRACE_SECONDS", 0.0)
    postgres = Postgres(AWAY)
    part = Part(postgres)
    with capture_logs() as logs:
        looking = asyncio.create_task(part.readiness.run())
        await eventually(lambda: logs)
        looking.cancel()
    assert [(entry["event"], entry["reason"]) for entry in logs] == [("not ready", AWAY)]
