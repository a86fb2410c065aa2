"""Asks a method of a `World` many things, and judges the answers together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from tests.support.api_methods import ApiMethod
from tests.support.fuzz import edges
from tests.support.fuzz.calls import Answer
from tests.support.fuzz.judging import fault_of
from tests.support.fuzz.world import World

AT_ONCE = 16
SHOWN = 10
"""So many faults are shown of a test that fails."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call, and what was answered. `what` says what is special in it; `fault` is "" for a good answer."""

    what: str
    frames: Sequence[Message]
    answer: Answer
    fault: str


async def ask(world: World, method: ApiMethod, what: str, frames: Sequence[Message]) -> Asked:
    """One call. Marks of lone surrogates in it become such on the wire."""
    serialised = [frame.SerializeToString() for frame in frames]
    sent = [edges.on_the_wire(frame) for frame in serialised]
    answer = await world.caller(method)(method, sent)
    return Asked(what, frames, answer, fault_of(answer, method.request, parses=sent == serialised))


async def all_of(calls: Sequence[Coroutine[None, None, Asked]]) -> list[Asked]:
    """All of them, some at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def in_turn(call: Coroutine[None, None, Asked]) -> Asked:
        async with turn:
            return await call

    return await asyncio.gather(*map(in_turn, calls))


def judge(asked: Sequence[Asked]) -> None:
    """Fail with the requests whose answers are at fault."""
    faults = [one for one in asked if one.fault]
    if faults:
        shown = "\n".join(f"{one.what}: {one.fault}\n    {_short(one.frames)}" for one in faults[:SHOWN])
        raise AssertionError(f"{len(faults)} of {len(asked)}\n{shown}")


def _short(frames: Sequence[Message]) -> str:
    return " | ".join(" ".join(str(frame).split())[:300] for frame in frames)
