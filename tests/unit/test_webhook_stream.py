"""A stream goes over from the database to the tail without a gap and without a repeat."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from mesh_core import ids
from mesh_core.errors import GoingAway, OutOfRange
from mesh_core.events import Cursor, Page, StoredEvent
from mesh_core.events.cursor import out_of_range
from mesh_core.rpc.server import Draining
from mesh_webhook.events import tail as tail_module
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import event_frames
from mesh_webhook.events.stream import EventStream
from mesh_webhook.events.tail import Follower
from sessionmesh.v1.event_pb2 import Event

TENANT = ids.new_uuid()


def stored(number: int) -> StoredEvent:
    body = Event(type="a.b", labels={"n": str(number)}).SerializeToString()
    return StoredEvent(
        Cursor(1, number, 1), ids.new_uuid(), TENANT, ids.new_uuid(), "a.b", body, datetime.now(UTC)
    )


class Past:
    """A reader whose database has events 1 to 3, and has lost those before `oldest`."""

    def __init__(self, oldest: int) -> None:
        self.oldest = Cursor(1, oldest, 1)

    async def check(self, cursor: Cursor, _tenant: Any) -> None:
        if cursor < self.oldest:
            raise out_of_range("has expired", self.oldest)

    async def read(self, cursor: Cursor, _limit: int, **_options: Any) -> Page:
        events = [stored(number) for number in (1, 2, 3) if Cursor(1, number, 1) > cursor]
        return Page(events, Cursor(1, 3, 1), complete=True)


class Present:
    """A tail that stands at 3 and has buffered 2 to 5 for whoever comes."""

    position = Cursor(1, 3, 1)

    async def attach(self, tenant: Any) -> Follower:
        follower = Follower(tenant)
        for number in (2, 3, 4, 5):
            follower.put(stored(number))
        return follower

    def detach(self, follower: Follower) -> None:
        follower.fall_behind()


def stream(draining: Draining, oldest: int = -1) -> EventStream:
    past: Any = Past(oldest)
    present: Any = Present()
    return EventStream(past, present, draining, TENANT, EventFilter(), Cursor(1, 0, 0))


async def test_what_was_read_and_also_buffered_comes_once() -> None:
    seen: list[str] = []
    async with aclosing(stream(Draining()).frames()) as frames:
        async for frame in frames:
            seen += [event.labels["n"] for event in frame.events.events]
            if len(seen) >= 5:
                break
    assert seen == ["1", "2", "3", "4", "5"]


async def test_a_stream_whose_next_events_were_deleted_ends_instead_of_passing_over_them() -> None:
    async with aclosing(stream(Draining(), oldest=1).frames()) as frames:
        await anext(frames)
        with pytest.raises(OutOfRange):
            await anext(frames)


async def test_a_drained_stream_names_the_last_event_that_it_gave() -> None:
    draining = Draining()
    frames = stream(draining).frames()
    await anext(frames)
    assert len((await anext(frames)).events.events) == 3
    draining.begin()
    with pytest.raises(GoingAway) as caught:
        await anext(frames)
    assert caught.value.resume_token == Cursor(1, 3, 1).encode()


@pytest.mark.parametrize(
    ("sizes", "frames"),
    [
        ([], []),
        ([10] * 250, [100, 100, 50]),
        ([1024 * 1024] * 5, [2, 2, 1]),
        ([10, 4 * 1024 * 1024, 10], [1, 1, 1]),
    ],
)
def test_frames_are_cut_by_events_and_by_bytes(sizes: list[int], frames: list[int]) -> None:
    events = [Event(type="a" * size) for size in sizes]
    assert [len(frame.events.events) for frame in event_frames(events)] == frames


def test_a_follower_whose_buffer_is_full_falls_behind_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail_module, "MAX_BUFFERED_EVENTS", 2)
    follower = Follower(TENANT)
    for number in (1, 2, 3, 4):
        follower.put(stored(number))
    assert follower.fell_behind
    assert not follower.events
    assert follower.changed.is_set()


def sized(number: int, size: int) -> StoredEvent:
    return StoredEvent(
        Cursor(1, number, 1), ids.new_uuid(), TENANT, ids.new_uuid(), "a.b", b"x" * size, datetime.now(UTC)
    )


def test_a_buffer_is_full_by_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "MAX_BUFFERED_BYTES", 250)
    follower = Follower(TENANT)
    for number in (1, 2):
        follower.put(sized(number, 100))
    assert not follower.fell_behind
    follower.put(sized(3, 100))
    assert follower.fell_behind
    assert not follower.events


def test_what_was_taken_makes_room_in_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "MAX_BUFFERED_BYTES", 250)
    follower = Follower(TENANT)
    for number in range(10):
        follower.put(sized(number, 200))
        assert [event.cursor.xid for event in follower.take(10, 1000)] == [number]
    assert not follower.fell_behind


def test_an_event_larger_than_the_buffer_is_buffered_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "MAX_BUFFERED_BYTES", 250)
    follower = Follower(TENANT)
    follower.put(sized(1, 1000))
    assert len(follower.take(10, 100)) == 1


def test_few_large_events_are_taken_at_a_time() -> None:
    follower = Follower(TENANT)
    for number in range(10):
        follower.put(sized(number, 100))
    assert [len(follower.take(4, 10_000)), len(follower.take(10, 150)), len(follower.take(10, 10_000))] == [
        4,
        2,
        4,
    ]
