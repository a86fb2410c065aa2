"""The service grpc.health.v1: whether a server lives, was ready once, and is ready now, with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc_health.v1 import health_pb2

from mesh_core.errors import MAX_NAME, InvalidField, NotFound

LIVENESS, READINESS, STARTUP = "liveness", "readiness", "startup"
"""What may be asked for besides services: whether the event loop turns, which an answer shows; whether the
part has all that it needs; whether that was so once.
"""
REASON_KEY = "x-mesh-reason"
"""Trailing metadata of an answer NOT_SERVING: why."""


class Health:
    """grpc.health.v1 with a synchronous `set`; the whole server is the service "".

    That one says whether it takes calls: callers leave it when it does not. What it cannot do for lack of
    something it tells them itself.
    """

    def __init__(self) -> None:
        self.reason = "it starts"
        """Why the server is not ready, in ASCII."""
        self.started = False
        """Whether it was ready once."""
        self._serving: dict[str, bool] = {"": False, READINESS: False, STARTUP: False, LIVENESS: True}
        self._watchers: set[asyncio.Event] = set()

    def set(self, service: str, serving: bool) -> None:
        """Change one service's status and tell those who watch."""
        self._serving[service] = serving
        for watcher in self._watchers:
            watcher.set()

    def set_all(self, services: Iterable[str], serving: bool) -> None:
        """Change the whole server and `services`."""
        for service in ("", *services):
            self.set(service, serving)

    def set_ready(self, reason: str, *, started: bool) -> None:
        """Ready, unless there is a reason not to be; `started`: it was so once."""
        self.reason, self.started = reason, started
        self.set(READINESS, not reason)
        self.set(STARTUP, started)

    async def Check(self, request: Any, context: Any) -> Any:
        service = _name(request)
        if service not in self._serving:
            raise NotFound("service", service)
        if not self._serving[service]:
            context.set_trailing_metadata(((REASON_KEY, self.reason),))
        return _Status(status=self._status(service))

    async def Watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        service = _name(request)
        changed = asyncio.Event()
        self._watchers.add(changed)
        last = None
        try:
            while True:
                changed.clear()
                status = self._status(service)
                if status != last:
                    last = status
                    yield _Status(status=status)
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _status(self, service: str) -> int:
        serving = self._serving.get(service)
        if serving is None:
            return int(_Status.SERVICE_UNKNOWN)
        return int(_Status.SERVING if serving else _Status.NOT_SERVING)


def _name(request: Any) -> str:
    service: str = request.service
    if len(service) > MAX_NAME:  # a stream keeps it
        raise InvalidField("service", f"has at most {MAX_NAME} characters")
    return service


_Status: Any = health_pb2.HealthCheckResponse
