"""The attempts of one call: which endpoint each goes to, whether there is another one, and when."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import StatusCode
from grpc.aio import ServicerContext

from mesh_core.backoff import Backoff
from mesh_core.errors import MeshError
from mesh_core.rpc.peers import CallFailed
from mesh_router.proxy.resolver import Endpoint, Resolver
from mesh_router.proxy.routes import Route

Context = ServicerContext[Any, Any]

WAIT_WITHOUT_DEADLINE = 10.0
"""Seconds that a call without a deadline waits for an endpoint."""


class Attempts:
    """The attempts of one call, until shortly before the caller's deadline."""

    __slots__ = ("_deadline", "_endpoint", "_resolver", "_retries")

    def __init__(self, resolver: Resolver, context: Context) -> None:
        remaining = context.time_remaining()
        # Ends a little before the caller's own deadline, so that the caller still receives the reason.
        seconds = WAIT_WITHOUT_DEADLINE if remaining is None else remaining - min(0.1, remaining / 10)
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._resolver = resolver
        self._retries = 0
        self._endpoint: Endpoint | None = None

    async def endpoint(self) -> Endpoint:
        """The endpoint of the next attempt, once there is one. Raises `Unavailable` when time is up."""
        endpoint = self._resolver.current()
        if endpoint is None:
            endpoint = await self._resolver.wait(self._deadline)
        self._endpoint = endpoint
        return endpoint

    def may_retry(self, failed: CallFailed, route: Route) -> bool:
        """Whether the same request may be sent again after this failure. That is so while time is left and:

        1. the endpoint certainly never began the call, or
        2. the endpoint did nothing: it does not own the account, or it drains and begins no more streams, or
        3. the connection broke, so nobody knows, and the method is idempotent.
        """
        if failed.code is not StatusCode.UNAVAILABLE or asyncio.get_running_loop().time() >= self._deadline:
            return False
        if not failed.begun or failed.reason == "NOT_OWNER":
            return True
        if failed.reason == "GOING_AWAY":
            return route.response_streaming
        return failed.reason == "" and route.idempotent

    async def backoff(self) -> None:
        """Wait until a retry may succeed. Raises `Unavailable` when time is up."""
        now = asyncio.get_running_loop().time()
        if now >= self._deadline or self._endpoint is None:
            raise self.unavailable()
        pause = min(_BACKOFF.after(self._retries), self._deadline - now)
        self._retries += 1
        await self._resolver.wait_for_another(self._endpoint, pause)

    def unavailable(self) -> MeshError:
        """The error for the caller when no attempt succeeded."""
        return self._resolver.unavailable(self._endpoint)


_BACKOFF = Backoff(0.03, 0.375, jitter=2 / 3)
"""Seconds at most: a retry comes sooner when the endpoint was replaced."""
