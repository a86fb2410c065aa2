"""Cuts a page of events into parts that one transaction can write, and shares it out among tenants.

A part is bounded in rows and bytes. Of a page, one tenant gets half of that; what is more of it, be it one
event for thousands of endpoints, is owed: one row for each event, from which the deliveries are made in turns
later. So what a page takes is bounded, and no tenant makes the others wait for long.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import UNAVAILABLE
from mesh_core.events import StoredEvent
from mesh_core.metrics import counter, counters
from mesh_webhook.endpoints.subscribers import Subscribers
from mesh_webhook.events.rendering import event_body, event_message
from sessionmesh.v1.event_pb2 import Event

HALVED = counters(
    "mesh_webhook_halved_work_total",
    "Transactions that failed, and are tried smaller.",
    answers="Is the database too slow for what is asked of it?",
    work=["fan-out", "owed"],
)
SKIPPED = counter(
    "mesh_webhook_skipped_events_total",
    "Events, or deliveries of them, that could not be made or stored.",
    answers="Were events lost that webhooks should have had?",
)

logger = structlog.get_logger(__name__)

# Small, because while a transaction is open all later events are hidden from their readers, everybody's.
MAX_ROWS = 1000
MAX_BYTES = 2 * 1024 * 1024
MAX_EVENTS = 100
"""Events of one part that somebody wants: rendering them holds up all else in the process."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one transaction may write: rows, and bytes of bodies.

    It writes at least one event, or one delivery of an owed one.
    """

    rows: int = MAX_ROWS
    size: int = MAX_BYTES

    def halved(self) -> Bounds:
        """After a transaction that took too long."""
        return Bounds(max(1, self.rows // 2), max(1, self.size // 2))

    def doubled(self) -> Bounds:
        """After one that did not."""
        return Bounds(min(MAX_ROWS, self.rows * 2), min(MAX_BYTES, self.size * 2))


LEAST = Bounds(1, 1)


class Smaller(Exception):
    """Work that failed is to be tried again in smaller pieces."""


AGAIN: tuple[type[Exception], ...] = (Smaller, *UNAVAILABLE)
"""After these the same work, or some of it, may succeed."""


@dataclass(slots=True)
class Shares:
    """What each tenant has had of a page so far, in rows and bytes of bodies."""

    rows: dict[UUID, int] = field(default_factory=lambda: defaultdict(int))
    sizes: dict[UUID, int] = field(default_factory=lambda: defaultdict(int))
    used_up: set[UUID] = field(default_factory=set)
    """Tenants that were refused: who wants the rest of their events is found out when these are made."""

    def take(self, tenant: UUID, rows: int, size: int, bounds: Bounds) -> bool:
        """Counts what the tenant gets now, if that is within half of the bounds; its first row always is."""
        too_many = self.rows[tenant] + rows > max(1, bounds.rows // 2)
        too_large = self.sizes[tenant] + size > bounds.size // 2 and (rows > 1 or self.rows[tenant] > 0)
        if too_many or too_large:
            self.used_up.add(tenant)
            return False
        self.rows[tenant] += rows
        self.sizes[tenant] += size
        return True


@dataclass(slots=True)
class Part:
    """Some events in order: the deliveries that are made of them at once, and those that are owed."""

    handled: int = 0
    """How many events of those given it covers, those that nobody wants counted."""
    rows: int = 0
    size: int = 0
    """Bytes of bodies, as often as they are stored."""
    events: list[tuple[StoredEvent, bytes, str]] = field(default_factory=list)
    """Events that are wanted, with body and traceparent."""
    deliveries: list[tuple[UUID, int]] = field(default_factory=list)
    """Endpoints, each with the place of its event, from 1."""
    owed: list[tuple[int, bytes]] = field(default_factory=list)
    """Places of owed events, with their labels as JSON."""

    def columns(self) -> tuple[list[object], ...]:
        """The arrays that `webhook_advance` takes."""
        stored = [event for event, _, _ in self.events]
        owed = [stored[place - 1] for place, _ in self.owed]
        return (
            [event.id for event in stored],
            [event.tenant for event in stored],
            [event.account if event.account.int else None for event in stored],
            [event.type for event in stored],
            [body for _, body, _ in self.events],
            [traceparent for _, _, traceparent in self.events],
            [ids.new_uuid() for _ in self.deliveries],
            [endpoint for endpoint, _ in self.deliveries],
            [place for _, place in self.deliveries],
            [place for place, _ in self.owed],
            [event.cursor.xid for event in owed],
            [event.cursor.seq for event in owed],
            [labels for _, labels in self.owed],
        )


def next_part(
    events: Sequence[StoredEvent], subscribers: Subscribers, bounds: Bounds, shares: Shares
) -> Part:
    """The first events that fit into one transaction, at least one; the tenants must have been refreshed."""
    part = Part()
    for stored in events:
        if part.rows >= bounds.rows or part.size >= bounds.size or len(part.events) >= MAX_EVENTS:
            break
        try:
            _add(part, stored, subscribers, bounds, shares)
        except Exception:  # whatever it is, it concerns this event alone
            SKIPPED.inc()
            logger.exception("an event cannot be made into deliveries, skipped", id=str(stored.id))
        part.handled += 1
    return part


def _add(part: Part, stored: StoredEvent, subscribers: Subscribers, bounds: Bounds, shares: Shares) -> None:
    candidates = None
    if stored.tenant not in shares.used_up:
        candidates = subscribers.wanting(stored.tenant, stored.account, stored.type, stored.cursor.xid)
        if not candidates:
            return
    event = event_message(stored)
    wanting = [one.endpoint.id for one in candidates or () if one.filter.matches_labels(event.labels)]
    if candidates and not wanting:
        return
    body = event_body(stored, event)
    part.events.append((stored, body, storable_traceparent(event)))
    place = len(part.events)
    if wanting and shares.take(stored.tenant, len(wanting), len(wanting) * len(body), bounds):
        part.deliveries += [(endpoint, place) for endpoint in wanting]
        part.rows += len(wanting)
        part.size += len(wanting) * len(body)
    else:
        part.owed.append((place, orjson.dumps(dict(event.labels))))
        part.rows += 1
        part.size += len(body)


def storable_traceparent(event: Event) -> str:
    """Postgres refuses some text that a proto can hold, so only a well-formed traceparent is stored."""
    return event.traceparent if _is_traceparent(event.traceparent) else ""


_is_traceparent = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
