"""Who gets this process's requests in flight: turns over tenants, then over their endpoints.

- A tenant holds no more slots than are then still free: it leaves half of what it finds to the next one.
- Retries hold at most three quarters of all slots, and of a tenant's: the rest is for first attempts.
- An endpoint begins with a few slots. An answer gives it one more, a request without one takes half of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

FIRST_SLOTS = 4
"""Of an endpoint that is not known yet."""


@dataclass(frozen=True, slots=True)
class Due:
    """An endpoint that has something due."""

    tenant: UUID
    endpoint: UUID


@dataclass(frozen=True, slots=True)
class Share:
    """How many deliveries of an endpoint may be claimed now, and how many of these may be retries."""

    room: int
    retries: int


class Slots:
    """Counts requests in flight; `total` at once, `per_endpoint` of them to one endpoint."""

    def __init__(self, total: int, per_endpoint: int) -> None:
        self._total = total
        self._per_endpoint = per_endpoint
        self._tenants: Counter[UUID] = Counter()
        self._retries: Counter[UUID] = Counter()
        self._endpoints: Counter[UUID] = Counter()
        self._limits: dict[UUID, int] = {}

    @property
    def free(self) -> int:
        """How many requests may begin at all."""
        return self._total - self._tenants.total()

    @property
    def full_tenants(self) -> list[UUID]:
        """Tenants that may begin none now."""
        free = self.free
        return [tenant for tenant, held in self._tenants.items() if held >= free]

    @property
    def full_endpoints(self) -> list[UUID]:
        """Endpoints that may get none now, whatever is free."""
        return [endpoint for endpoint, held in self._endpoints.items() if held >= self.limit(endpoint)]

    def limit(self, endpoint: UUID) -> int:
        """How many requests may be on their way to the endpoint at once."""
        return min(self._limits.get(endpoint, FIRST_SLOTS), self._per_endpoint)

    def begin(self, tenant: UUID, endpoint: UUID, *, retry: bool) -> None:
        """A request begins."""
        self._tenants[tenant] += 1
        self._endpoints[endpoint] += 1
        if retry:
            self._retries[tenant] += 1

    def end(self, tenant: UUID, endpoint: UUID, *, retry: bool, answered: bool | None) -> None:
        """A request has ended; `answered` is None when it was not made."""
        for counter, key in ((self._tenants, tenant), (self._endpoints, endpoint)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]
        if retry:
            self._retries[tenant] -= 1
            if not self._retries[tenant]:
                del self._retries[tenant]
        if answered is not None:
            self._learn(endpoint, answered)

    def share_out(self, due: Sequence[Due], most: int, of_tenant: int) -> dict[UUID, Share]:
        """What each endpoint may have of `most`, and of `of_tenant` that a tenant may: tenants, then their
        endpoints, have turns as in `due`.
        """
        waiting: dict[UUID, deque[UUID]] = {}
        for one in due:
            waiting.setdefault(one.tenant, deque()).append(one.endpoint)
        owner = {one.endpoint: one.tenant for one in due}
        rooms: Counter[UUID] = Counter()
        given: Counter[UUID] = Counter()
        held, free, left = self._tenants.copy(), self.free, most
        turns = deque(waiting)
        while turns and free > 0 and left > 0:
            tenant = turns.popleft()
            endpoints = waiting[tenant]
            if held[tenant] >= free or not endpoints or given[tenant] == of_tenant:
                continue
            endpoint = endpoints.popleft()
            if self._endpoints[endpoint] + rooms[endpoint] < self.limit(endpoint):
                rooms[endpoint] += 1
                held[tenant] += 1
                given[tenant] += 1
                free -= 1
                left -= 1
                endpoints.append(endpoint)
            turns.append(tenant)
        return self._with_retries({endpoint: room for endpoint, room in rooms.items() if room}, owner)

    def _with_retries(self, rooms: Mapping[UUID, int], owner: Mapping[UUID, UUID]) -> dict[UUID, Share]:
        """Says how much of each room retries may have."""
        everybody = self._total * 3 // 4 - self._retries.total()
        tenants: dict[UUID, int] = {}
        for endpoint, room in rooms.items():
            tenants[owner[endpoint]] = tenants.get(owner[endpoint], self._tenants[owner[endpoint]]) + room
        left = {tenant: max(1, most * 3 // 4) - self._retries[tenant] for tenant, most in tenants.items()}
        shares: dict[UUID, Share] = {}
        for endpoint, room in rooms.items():
            retries = max(0, min(room, left[owner[endpoint]], everybody))
            left[owner[endpoint]] -= retries
            everybody -= retries
            shares[endpoint] = Share(room, retries)
        return shares

    def _learn(self, endpoint: UUID, answered: bool) -> None:
        limit = self.limit(endpoint)
        self._limits.pop(endpoint, None)
        limit = min(limit + 1, self._per_endpoint) if answered else max(1, limit // 2)
        if limit == FIRST_SLOTS:
            return
        if len(self._limits) >= _MAX_LIMITS:  # the endpoint that was heard of longest ago begins anew
            del self._limits[next(iter(self._limits))]
        self._limits[endpoint] = limit


_MAX_LIMITS = 20_000
