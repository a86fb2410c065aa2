"""How often TestEndpoint may be called: each call is a request from the mesh to wherever the caller says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asyncpg.pgproto.pgproto import UUID

from mesh_core.at_once import AtOnce
from mesh_core.errors import ResourceExhausted

PER_MINUTE = 10
"""Calls for one endpoint."""

AT_ONCE = 4
"""Calls of one tenant that wait for their endpoints."""


class Trials:
    """Counts the calls of this process; they hold none of the deliveries' slots. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running = AtOnce(AT_ONCE, "tests of endpoints", "test_endpoint_at_once", 1.0)
        self._next: dict[
            UUID, float
        ] = {}  # GCRA: when an endpoint would have none left of its minute to catch up

    @contextmanager
    def one(self, tenant: UUID, endpoint: UUID) -> Iterator[None]:
        """One call. Raises `ResourceExhausted` RATE_LIMITED with the seconds until another may come."""
        with self._running.one(tenant):
            self._count(endpoint)
            yield

    def _count(self, endpoint: UUID) -> None:
        now = self._clock()
        wait = self._next.get(endpoint, now) - now - (PER_MINUTE - 1) * _APART
        if wait > 0:
            raise ResourceExhausted(
                f"there may be {PER_MINUTE} tests of an endpoint in a minute",
                "RATE_LIMITED",
                quota="test_endpoint_per_minute",
                retry_after=max(wait, 0.001),
            )
        if len(self._next) >= _MAX_ENDPOINTS:
            self._next = {one: until for one, until in self._next.items() if until > now}
        self._next[endpoint] = max(self._next.get(endpoint, now), now) + _APART


_APART = 60.0 / PER_MINUTE
_MAX_ENDPOINTS = 10_000
