"""What the requests of a tenant may take: few are read as they come, large ones have a room of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mesh_core import ids
from mesh_core.errors import DeadlineExceeded, InvalidArgument, MeshError, ResourceExhausted
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Identity, Role, assume
from mesh_core.rpc.server import bodies
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_core.rpc.server.bodies import SMALL_BYTES, Bodies
from sessionmesh.v1.authorization_pb2 import SCOPE_PUBLIC, SCOPE_SEND
from tests.support.eventually import eventually

LARGE = b"x" * (SMALL_BYTES + 1)
PASSED_ON, ENTERING = "passed on", "entering"
"""In these tests a call's context is one of these."""


def tenant(role: Role = Role.TENANT) -> Identity:
    return Identity(role, ids.new_uuid(), ids.new_id(Prefix.KEY), frozenset())


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Bodies:
    monkeypatch.setattr(bodies, "AS_THEY_COME_OF_TENANT", 2)
    monkeypatch.setattr(bodies, "AS_THEY_COME_IN_ALL", 3)
    monkeypatch.setattr(bodies, "IN_TURN_OF_TENANT", 1)
    monkeypatch.setattr(bodies, "IN_TURN_IN_ALL", 2)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(bodies, "STREAMS_OF_TENANT", 2)
    monkeypatch.setattr(bodies, "STREAMS_IN_ALL", 3)
    monkeypatch.setattr(bodies, "BYTES_OF_TENANT", 2 * len(LARGE))
    monkeypatch.setattr(bodies, "BYTES_IN_ALL", 3 * len(LARGE))
    return Bodies(lambda context: str(context) == PASSED_ON)


class Calls:
    """Calls that stay where they are until they are released; what became of each."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.inside = 0
        self.tasks: list[asyncio.Task[Any]] = []

    async def serve(self, _request: Any, _context: Any) -> str:
        self.inside += 1
        await self.release.wait()
        return "served"

    async def begin(self, body: Callable[..., Awaitable[Any]], caller: Identity, *given: Any) -> Any:
        """A call, as the chassis makes it; what it was refused with, None while it is being served."""

        async def call() -> Any:
            assume(caller)
            return await body(*given)

        before = self.inside
        task = asyncio.create_task(call())
        await eventually(lambda: task.done() or self.inside > before)
        return task.exception() if task.done() else None

    async def end(self) -> None:
        self.release.set()
        await eventually(lambda: True)


async def coming(room: Bodies, caller: Identity, until: asyncio.Event) -> bool:
    """A call whose body is on its way until then; whether it is read as it comes."""
    begun = asyncio.get_running_loop().create_future()

    async def call() -> None:
        begun.set_result(room.begin(caller))
        await until.wait()
        room.came()

    background.append(asyncio.create_task(call()))
    return bool(await begun)


background: list[asyncio.Task[None]] = []


@pytest.fixture(autouse=True)
async def ended() -> AsyncIterator[None]:
    yield
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    background.clear()


async def test_few_bodies_are_read_as_they_come_of_a_tenant_and_in_all(room: Bodies) -> None:
    one, other, third = tenant(), tenant(), tenant()
    until = asyncio.Event()
    assert [await coming(room, one, until) for _ in range(3)] == [True, True, False]
    assert [await coming(room, other, until) for _ in range(2)] == [True, False]
    assert not await coming(room, third, until)


async def test_a_body_that_came_makes_room_for_the_next(room: Bodies) -> None:
    caller, until = tenant(), asyncio.Event()
    for _ in range(2):
        await coming(room, caller, until)
    until.set()
    await asyncio.gather(*background)
    assert await coming(room, caller, asyncio.Event())


async def test_a_caller_that_leaves_before_its_body_came_makes_room_too(room: Bodies) -> None:
    caller, never = tenant(), asyncio.Event()
    for _ in range(2):
        await coming(room, caller, never)
    background[0].cancel()
    await asyncio.wait([background[0]])
    assert [await coming(room, caller, never) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MESH])
async def test_administrators_and_parts_of_the_mesh_are_not_counted(room: Bodies, role: Role) -> None:
    caller, calls = tenant(role), Calls()
    assert all([await coming(room, caller, asyncio.Event()) for _ in range(5)])
    for body in (room.holding(calls.serve, SCOPE_SEND), room.streaming(calls.serve)):
        assert [await calls.begin(body, caller, LARGE, ENTERING) for _ in range(5)] == [None] * 5
    assert await room.read(frames(b"x"), caller) == b"x"


async def frames(*given: bytes) -> AsyncIterator[bytes]:
    for one in given:
        yield one


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def test_a_further_body_is_read_in_its_turn_and_has_its_time_to_come(room: Bodies) -> None:
    caller = tenant()
    assert await room.read(frames(b"x"), caller) == b"x"
    with pytest.raises(DeadlineExceeded):
        await room.read(silence(), caller)
    with pytest.raises(InvalidArgument):
        await room.read(frames(), caller)


async def test_a_body_whose_turn_does_not_come_is_refused_and_those_of_others_are_read(
    room: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 60.0)
    monkeypatch.setattr("mesh_core.rpc.server.strangers.TURN_SECONDS", 0.05)
    caller = tenant()
    reading = asyncio.create_task(room.read(silence(), caller))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refused:
        await room.read(frames(b"x"), caller)
    told(refused.value, "request_bodies")
    assert await room.read(frames(b"x"), tenant()) == b"x"
    reading.cancel()


def told(refused: MeshError, quota: str) -> None:
    assert isinstance(refused, ResourceExhausted)
    assert (refused.reason, refused.quota, refused.retry_after) == ("RATE_LIMITED", quota, 1.0)


@pytest.mark.parametrize("kind", ["bytes", "streams"])
async def test_large_requests_and_streams_have_a_room_of_each_tenant_and_one_of_all(
    room: Bodies, kind: str
) -> None:
    calls = Calls()
    body = room.streaming(calls.serve) if kind == "streams" else room.holding(calls.serve, SCOPE_SEND)
    one, other = tenant(), tenant()

    async def given(caller: Identity) -> Any:
        return await calls.begin(body, caller, frames(b"x") if kind == "streams" else LARGE, ENTERING)

    assert [await given(one), await given(one)] == [None, None]
    told(await given(one), f"request_{kind}")
    assert await given(other) is None
    told(await given(other), f"request_{kind}")
    calls.release.set()
    await eventually(lambda: not (room._all_bytes or room._bytes), what="an empty room")
    calls.release.clear()
    assert [await given(other), await given(other)] == [None, None]


async def test_what_is_small_or_was_let_in_elsewhere_or_asks_for_no_key_takes_no_room(room: Bodies) -> None:
    calls, caller = Calls(), tenant()
    keyed, public = room.holding(calls.serve, SCOPE_SEND), room.holding(calls.serve, SCOPE_PUBLIC)
    batched = BatchedContext((), None)
    for body, request, context in (
        (keyed, LARGE[:-1], ENTERING),
        (keyed, LARGE, PASSED_ON),
        (keyed, LARGE, batched),
        (public, LARGE, ENTERING),
    ):
        assert [await calls.begin(body, caller, request, context) for _ in range(4)] == [None] * 4


async def test_a_stream_that_is_refused_is_read_on_so_that_its_caller_learns_why(room: Bodies) -> None:
    calls, caller = Calls(), tenant()
    body = room.streaming(calls.serve)
    for _ in range(2):
        await calls.begin(body, caller, frames(), ENTERING)
    rest = frames(b"a", b"b")
    told(await calls.begin(body, caller, rest, ENTERING), "request_streams")
    assert [frame async for frame in rest] == []
