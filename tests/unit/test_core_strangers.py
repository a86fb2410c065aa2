"""Calls without a key have few places, by address and in all, and have to say soon what they want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh_core.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted
from mesh_core.rpc.server import strangers
from mesh_core.rpc.server.reading_out import ReadOuts
from mesh_core.rpc.server.strangers import Strangers
from tests.support.eventually import eventually


async def frames(*bodies: bytes) -> AsyncIterator[bytes]:
    for body in bodies:
        yield body


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


class Caller(str):
    """In these tests a call's context is the address that it comes from."""

    metadata: tuple[tuple[str, str], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self.metadata


def address(context: Any) -> str:
    return str(context)


class Held:
    """A handler that serves until it is released, and the calls that are with it."""

    def __init__(self, guard: Strangers, *, takes_stream: bool = False) -> None:
        self.inside = 0
        self.release = asyncio.Event()
        self._bounded = guard.streaming(self._serve, takes_stream=takes_stream)

    async def serve(self, request: Any, context: Any) -> Any:
        caller: Any = Caller(context)
        return await self._bounded(request, caller)

    async def _serve(self, request: Any, _context: Any) -> list[bytes]:
        self.inside += 1
        try:
            await self.release.wait()
            return [frame async for frame in request]
        finally:
            self.inside -= 1


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Strangers:
    monkeypatch.setattr(strangers, "STREAMS_OF_ADDRESS", 2)
    monkeypatch.setattr(strangers, "STREAMS_IN_ALL", 6)
    monkeypatch.setattr(strangers, "BODIES_OF_ADDRESS", 2)
    monkeypatch.setattr(strangers, "BODIES_IN_ALL", 3)
    monkeypatch.setattr(strangers, "WAITING_OF_ADDRESS", 4)
    monkeypatch.setattr(strangers, "WAITING_IN_ALL", 8)
    return Strangers(address)


async def opened(held: Held, *addresses: Any) -> list[asyncio.Task[Any]]:
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(held.serve(frames(b"x"), one)) for one in addresses]
    await eventually(lambda: held.inside == len(addresses), what="all streams with the handler")
    return tasks


async def refused_by(held: Held, where: str) -> None:
    with pytest.raises(ResourceExhausted):
        async with asyncio.timeout(5):
            await held.serve(frames(), where)


@pytest.mark.parametrize(("taken", "refused", "served"), [(["a", "a"], "a", "b"), ([*"aabbcd"], "e", None)])
async def test_streams_have_places_by_address_and_in_all(
    guard: Strangers, taken: list[str], refused: Any, served: Any
) -> None:
    held = Held(guard)
    tasks = await opened(held, *taken)
    await refused_by(held, refused)
    if served:
        tasks.append(asyncio.create_task(held.serve(frames(b"x"), served)))
    held.release.set()
    assert await asyncio.gather(*tasks) == [[b"x"]] * len(tasks)


async def test_few_addresses_do_not_hold_all_places(
    monkeypatch: pytest.MonkeyPatch, guard: Strangers
) -> None:
    monkeypatch.setattr(strangers, "STREAMS_OF_ADDRESS", 12)
    monkeypatch.setattr(strangers, "STREAMS_IN_ALL", 12)
    held = Held(Strangers(address))
    tasks = await opened(held, *"aaaaaa", *"bbb", *"c")
    for full in "ab":
        await refused_by(held, full)
    tasks.append(asyncio.create_task(held.serve(frames(b"x"), "d")))
    held.release.set()
    assert await asyncio.gather(*tasks) == [[b"x"]] * 11


@pytest.mark.parametrize("brief", [False, True])
async def test_a_stream_with_much_metadata_is_refused_and_takes_no_place(
    guard: Strangers, brief: bool
) -> None:
    held = Held(guard)
    held.release.set()
    caller: Any = Caller("a")
    caller.metadata = (("x", "v" * (strangers.METADATA_BYTES - 33)),)
    body = guard.streaming(held._serve, takes_stream=True, brief=brief)
    assert await body(frames(b"x"), caller) == [b"x"]
    caller.metadata = (("x", "v" * (strangers.METADATA_BYTES - 32)),)
    for _ in range(5):
        with pytest.raises(ResourceExhausted, match="metadata"):
            await body(frames(b"x"), caller)
    assert await held.serve(frames(b"x"), "a") == [b"x"]


async def test_a_call_with_much_metadata_is_refused_unread(guard: Strangers) -> None:
    caller: Any = Caller("a")
    caller.metadata = (("x", "v" * strangers.METADATA_BYTES),)
    with pytest.raises(ResourceExhausted, match="metadata"):
        async with asyncio.timeout(5):
            await guard.read(silence(), caller)


async def test_a_place_is_free_again_when_its_stream_ends(guard: Strangers) -> None:
    held = Held(guard)
    tasks = await opened(held, "a", "a")
    tasks[0].cancel()
    await eventually(lambda: held.inside == 1, what="the end of a stream")
    held.release.set()
    assert await held.serve(frames(b"y"), "a") == [b"y"]
    await tasks[1]


async def test_a_stream_that_asks_for_nothing_ends(monkeypatch: pytest.MonkeyPatch, guard: Strangers) -> None:
    monkeypatch.setattr(strangers, "FIRST_FRAME_SECONDS", 0.01)
    held = Held(guard, takes_stream=True)
    held.release.set()
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(5):
            await held.serve(silence(), "a")


async def test_only_the_first_frame_has_to_come_soon(
    monkeypatch: pytest.MonkeyPatch, guard: Strangers
) -> None:
    monkeypatch.setattr(strangers, "FIRST_FRAME_SECONDS", 0.05)
    late = asyncio.Event()
    seen: list[bytes] = []

    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        await late.wait()
        yield b"second"

    async def read(request: Any, _context: Any) -> None:
        seen.extend([frame async for frame in request])

    asyncio.get_running_loop().call_later(0.2, late.set)
    context: Any = Caller("a")
    await guard.streaming(read, takes_stream=True)(requests(), context)
    assert seen == [b"first", b"second"]


async def test_each_frame_of_a_brief_stream_has_to_come_soon(
    monkeypatch: pytest.MonkeyPatch, guard: Strangers
) -> None:
    monkeypatch.setattr(strangers, "FRAME_SECONDS", 0.05)
    seen: list[bytes] = []

    async def requests() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async def serve(request: Any, _context: Any) -> None:
        async for frame in request:
            seen.append(frame)  # noqa: PERF401 - a comprehension would lose it with the error

    context: Any = Caller("a")
    with pytest.raises(DeadlineExceeded):
        await guard.streaming(serve, takes_stream=True, brief=True)(requests(), context)
    assert seen == [b"first"]


async def test_a_brief_stream_ends_where_its_caller_ends_it(guard: Strangers) -> None:
    held = Held(guard)
    held.release.set()
    body = guard.streaming(held._serve, takes_stream=True, brief=True)
    context: Any = Caller("a")
    assert await body(frames(b"x", b"y"), context) == [b"x", b"y"]


async def read(guard: Strangers, requests: AsyncIterator[bytes], where: Any) -> bytes:
    context: Any = Caller(where)
    return await guard.read(requests, context)


async def test_a_body_that_is_there_is_read_though_others_of_its_address_do_not_come(
    guard: Strangers,
) -> None:
    stuck = asyncio.create_task(read(guard, silence(), "a"))
    assert await asyncio.gather(*(read(guard, frames(b"x"), "a") for _ in range(3))) == [b"x"] * 3
    stuck.cancel()


async def test_bodies_that_do_not_come_give_their_turn_to_the_last_who_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(strangers, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(strangers, "BODIES_OF_ADDRESS", 1)
    guard = Strangers(address)
    stuck = [asyncio.create_task(read(guard, silence(), "a")) for _ in range(2)]  # one of them waits
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await read(guard, frames(b"x"), "a") == b"x"
    assert not stuck[1].done()
    for one in stuck:
        with pytest.raises(DeadlineExceeded):
            async with asyncio.timeout(5):
                await one


async def test_a_call_whose_turn_does_not_come_is_refused_and_takes_none(
    monkeypatch: pytest.MonkeyPatch, guard: Strangers
) -> None:
    monkeypatch.setattr(strangers, "TURN_SECONDS", 0.05)
    stuck = [asyncio.create_task(read(guard, silence(), "a")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        async with asyncio.timeout(5):
            await read(guard, frames(b"x"), "a")
    for one in stuck:
        one.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert await asyncio.gather(*(read(guard, frames(b"x"), "a") for _ in range(4))) == [b"x"] * 4


async def test_others_addresses_have_turns_of_their_own(guard: Strangers) -> None:
    stuck = [asyncio.create_task(read(guard, silence(), "a")) for _ in range(4)]
    await asyncio.sleep(0)
    assert await read(guard, frames(b"y"), "b") == b"y"
    for one in stuck:
        one.cancel()


@pytest.mark.parametrize("addresses", [["a"] * 4, ["a", "a", "b", "b", "c", "c"]])
async def test_no_more_calls_wait_than_there_are_places(guard: Strangers, addresses: list[str]) -> None:
    waiting = [asyncio.create_task(read(guard, silence(), one)) for one in addresses]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted):
        await read(guard, frames(b"x"), "a")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await read(guard, frames(b"x"), "a") == b"x"


async def test_a_call_without_a_request_is_refused(guard: Strangers) -> None:
    with pytest.raises(InvalidArgument):
        await read(guard, frames(), "a")


async def test_few_refused_streams_are_read_on_at_a_time() -> None:
    read_outs = ReadOuts(1)
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        begun.set()
        await asyncio.Event().wait()
        yield b""

    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("there was no place to read this")
        yield b""

    first = asyncio.create_task(read_outs.read(endless()))
    await begun.wait()
    await read_outs.read(never())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    with pytest.raises(AssertionError):
        await read_outs.read(never())
