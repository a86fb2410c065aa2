"""How a page of events is cut into what one transaction writes, and shared out among tenants."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.events import Cursor, StoredEvent
from mesh_core.ids import new_uuid
from mesh_webhook.deliveries import parts as parts_module
from mesh_webhook.deliveries.backlog import ALARM_SECONDS, Standstill
from mesh_webhook.deliveries.parts import LEAST, MAX_BYTES, MAX_ROWS, Bounds, Part, Shares, next_part
from mesh_webhook.endpoints.subscribers import Subscriber, Subscribers
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import event_body
from sessionmesh.v1 import event_pb2

CROWDED, SMALL, SILENT = new_uuid(), new_uuid(), new_uuid()


class Wanted:
    """Subscribers of which each tenant has a number that want everything."""

    def __init__(self, **tenants: int) -> None:
        named = {"crowded": CROWDED, "small": SMALL}
        self._tenants = {named[name]: count for name, count in tenants.items()}
        self.asked = 0

    def wanting(self, tenant: UUID, *_: Any) -> list[Subscriber]:
        self.asked += 1
        return [Subscriber(endpoint(), EventFilter()) for _ in range(self._tenants.get(tenant, 0))]


def endpoint() -> Any:
    return SimpleNamespace(id=new_uuid())


def subscribers(**tenants: int) -> Subscribers:
    made: Any = Wanted(**tenants)
    found: Subscribers = made
    return found


def event(tenant: UUID, size: int = 10) -> StoredEvent:
    body = event_pb2.Event(type="a.b", test=event_pb2.TestEvent(text="x" * size)).SerializeToString()
    return StoredEvent(Cursor(1, 1, 1), new_uuid(), tenant, new_uuid(), "a.b", body, datetime.now(UTC))


def all_parts(events: list[StoredEvent], wanted: Subscribers, bounds: Bounds) -> list[Part]:
    parts, shares = [], Shares()
    while events:
        parts.append(next_part(events, wanted, bounds, shares))
        events = events[parts[-1].handled :]
    return parts


def test_an_event_for_thousands_of_endpoints_is_owed_and_its_neighbours_are_delivered() -> None:
    events = [event(CROWDED), event(SMALL), event(CROWDED), event(SMALL)]
    part = next_part(events, subscribers(crowded=MAX_ROWS, small=1), Bounds(), Shares())
    assert part.handled == 4
    assert [part.events[place - 1][0].tenant for _, place in part.deliveries] == [SMALL, SMALL]
    assert [part.events[place - 1][0].tenant for place, _ in part.owed] == [CROWDED, CROWDED]


def test_a_tenant_has_half_of_the_rows_of_a_page_and_the_rest_is_owed() -> None:
    page = [event(CROWDED) for _ in range(500)]
    parts = all_parts(page, subscribers(crowded=16), Bounds(1000, MAX_BYTES))
    assert sum(len(part.deliveries) for part in parts) == 496
    assert sum(len(part.owed) for part in parts) == 469


def test_a_tenant_whose_share_is_used_up_costs_no_more_matching_in_that_page() -> None:
    wanted = Wanted(crowded=MAX_ROWS)
    counted: Any = wanted
    next_part([event(CROWDED) for _ in range(50)], counted, Bounds(), Shares())
    assert wanted.asked == 1


def test_a_part_has_a_bounded_number_of_events() -> None:
    parts = all_parts([event(SMALL) for _ in range(250)], subscribers(small=1), Bounds())
    assert [part.handled for part in parts] == [100, 100, 50]


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(100, MAX_BYTES), Bounds(MAX_ROWS, 5000), LEAST])
def test_a_part_keeps_its_bounds_and_a_page_is_covered_whatever_they_are(bounds: Bounds) -> None:
    page = [event(CROWDED, 500) for _ in range(40)] + [event(SMALL) for _ in range(5)]
    parts = all_parts(page, subscribers(crowded=20, small=1), bounds)
    events = [stored.id for part in parts for stored, _, _ in part.events]
    assert events == [stored.id for stored in page]
    for part in parts:
        assert part.rows <= max(1, bounds.rows + bounds.rows // 2)
        assert len(part.deliveries) + len(part.owed) == part.rows
        assert part.size <= bounds.size * 2 or part.handled == 1


def test_bytes_bound_a_part_as_rows_do() -> None:
    large = [event(CROWDED, 1_000_000) for _ in range(3)]
    part = next_part(large, subscribers(crowded=100), Bounds(), Shares())
    assert not part.deliveries
    assert len(part.owed) == 3


def test_an_event_that_fails_in_an_unforeseen_way_is_skipped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [event(SMALL) for _ in range(3)]

    def broken(stored: StoredEvent, message: event_pb2.Event) -> bytes:
        if stored is events[1]:
            raise RuntimeError
        return event_body(stored, message)

    monkeypatch.setattr(parts_module, "event_body", broken)
    before = parts_module.SKIPPED.value
    part = next_part(events, subscribers(small=1), Bounds(), Shares())
    assert [stored.id for stored, _, _ in part.events] == [events[0].id, events[2].id]
    assert part.handled == 3
    assert parts_module.SKIPPED.value == before + 1


def test_the_only_delivery_of_a_huge_event_is_made_at_once() -> None:
    part = next_part([event(SMALL, MAX_BYTES * 2)], subscribers(small=1), Bounds(), Shares())
    assert len(part.deliveries) == 1


def test_events_that_nobody_wants_are_handled_and_cost_nothing() -> None:
    part = next_part([event(SILENT) for _ in range(500)], subscribers(small=1), LEAST, Shares())
    assert (part.handled, part.rows, part.events) == (500, 0, [])


def test_bounds_are_halved_down_to_one_and_doubled_up_to_the_most() -> None:
    bounds = Bounds()
    for _ in range(40):
        bounds = bounds.halved()
    assert bounds == LEAST
    for _ in range(40):
        bounds = bounds.doubled()
    assert bounds == Bounds()


def test_a_standstill_is_alarmed_once_for_each_while_that_it_lasts() -> None:
    still = Standstill()
    alarms = [
        still.alarm(still.seconds(7, waiting=True, now=now))
        for now in (0.0, ALARM_SECONDS - 1, ALARM_SECONDS, ALARM_SECONDS + 1, 2 * ALARM_SECONDS)
    ]
    assert alarms == [False, False, True, False, True]


@pytest.mark.parametrize(("position", "waiting"), [(8, True), (7, False)])
def test_a_position_that_moved_or_has_nothing_behind_it_stands_not_still(
    position: int, waiting: bool
) -> None:
    still = Standstill()
    still.seconds(7, waiting=True, now=0.0)
    assert still.seconds(position, waiting=waiting, now=100.0) == 0.0
