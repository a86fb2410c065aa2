"""Which endpoints want an event, by tenant.

Who has read events asks for a `refresh` of their tenants, and then matches. The refresh is one statement that
begins after the events were read, so it sees every endpoint that was committed before one of them: an
endpoint gets each event committed after it, however often endpoints change, and nobody waits for anybody.
Only what changed of these tenants is read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.metrics import counter
from mesh_webhook.endpoints.endpoint import COLUMNS, Endpoint
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1 import webhook_pb2

logger = structlog.get_logger(__name__)

UNREADABLE = counter(
    "mesh_webhook_unreadable_endpoints_total",
    "Endpoints whose rows cannot be read, and that get nothing.",
    answers="Who gets no webhooks for our own fault?",
)

IDLE_SECONDS = 600.0
"""Far longer than anybody matches what a refresh has read."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An endpoint that is active or paused, and the filter of the events it wants."""

    endpoint: Endpoint
    filter: EventFilter


class Subscribers:
    """The endpoints of the tenants that were asked for; any number of tasks may refresh them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._tenants: dict[UUID, _Tenant] = {}
        self._asked: dict[UUID, float] = {}
        """When a tenant was asked for last, the longest ago first."""

    async def refresh(self, tenants: Iterable[UUID]) -> None:
        """Reads what changed of these tenants' endpoints since it was read last.

        Tenants that nobody asked for in the last `IDLE_SECONDS` are forgotten: deleted ones have no events.
        """
        tenants = [*tenants]
        self._forget_idle(tenants)
        known = {tenant: self._tenants.get(tenant, _NONE) for tenant in tenants}
        rows = await self._pool.fetch(
            _CHANGED,
            [*known],
            [one.revision for one in known.values()],
            [one.whole_until for one in known.values()],
        )
        changed: dict[UUID, list[asyncpg.Record]] = {}
        for row in rows:
            changed.setdefault(row["of_tenant"], []).append(row)
        for tenant, of_tenant in changed.items():
            if of_tenant[0]["reached"] > self._tenants.get(tenant, _NONE).revision:
                self._tenants[tenant] = _changed(self._tenants.get(tenant, _NONE), of_tenant)

    def _forget_idle(self, asked: Iterable[UUID]) -> None:
        now = time.monotonic()
        for tenant in asked:
            self._asked.pop(tenant, None)
            self._asked[tenant] = now
        for tenant, _ in [*takewhile(lambda one: one[1] < now - IDLE_SECONDS, self._asked.items())]:
            del self._asked[tenant]
            self._tenants.pop(tenant, None)

    def count(self, tenant: UUID) -> int:
        """How many endpoints of the tenant an event is compared with."""
        return len(self._tenants.get(tenant, _NONE).subscribers)

    def wanting(
        self, tenant: UUID, account: UUID, event_type: str, xid: int, after: UUID | None = None
    ) -> list[Subscriber]:
        """The endpoints that existed when the event's transaction ended, and want its type and account.

        They are in the order of their ids, those behind `after`.

        The caller still has to compare the labels, for which the event must be parsed.
        """
        return [
            subscriber
            for subscriber in self._tenants.get(tenant, _NONE).subscribers.values()
            if (after is None or subscriber.endpoint.id > after)
            and subscriber.filter.matches(event_type, account)
            and not subscriber.endpoint.since.sees(xid)
        ]


@dataclass(frozen=True, slots=True)
class _Tenant:
    """Subscribers in the order of their ids, as of `revision`.

    Deleted endpoints stay until there are many of them: a delivery for one is not stored. `whole_until` is
    the number of deletions after which all is read again.
    """

    revision: int = 0
    whole_until: int = 0
    subscribers: Mapping[UUID, Subscriber] = field(default_factory=dict)


def _changed(known: _Tenant, rows: list[asyncpg.Record]) -> _Tenant:
    whole = rows[0]["whole"]
    subscribers = {} if whole else dict(known.subscribers)
    for row in rows:
        if row["id"] is None:
            continue
        subscribers.pop(row["id"], None)
        try:
            endpoint = Endpoint.of(row)
            subscriber = Subscriber(endpoint, endpoint.filter())
        except Exception:  # one row must not stop the endpoints of all
            UNREADABLE.inc()
            logger.exception("an endpoint cannot be read", endpoint=str(row["id"]))
            continue
        if endpoint.state != webhook_pb2.ENDPOINT_STATE_DISABLED:
            subscribers[endpoint.id] = subscriber
    ordered = {key: subscribers[key] for key in sorted(subscribers)}
    whole_until = rows[0]["deletions"] + max(_DELETIONS, len(ordered) // 2) if whole else known.whole_until
    return _Tenant(rows[0]["reached"], whole_until, ordered)


_NONE = _Tenant(whole_until=-1)
_DELETIONS = 100
_CHANGED = f"""SELECT k.tenant AS of_tenant, t.revision AS reached, t.deletions,
    t.deletions > k.whole_until AS whole, {COLUMNS}
  FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS k(tenant, revision, whole_until)
  JOIN webhook_tenant t ON t.tenant = k.tenant AND t.revision > k.revision
  LEFT JOIN webhook_endpoint e ON e.tenant = t.tenant
    AND e.revision > CASE WHEN t.deletions > k.whole_until THEN 0 ELSE k.revision END"""  # noqa: S608 - constants
