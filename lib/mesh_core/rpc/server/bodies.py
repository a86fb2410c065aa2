"""What the requests of tenants may take of a server's memory, while they come and while they are served.

gRPC reads a body whole before it hands any of it on: a hundred of the largest at once would take most of a
small machine. So few calls of a tenant are read as they come. Further ones are read in turns, each in its
time, which costs some microseconds more; and large ones that are being served have a room of bytes. What
comes from another part of the mesh was let in there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from mesh_core.errors import ResourceExhausted
from mesh_core.rpc.auth import Identity, Role, current_identity
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_core.rpc.server.parsing import Context, Serve
from mesh_core.rpc.server.reading_out import read_out
from mesh_core.rpc.server.strangers import Places, Readers, there
from sessionmesh.v1.authorization_pb2 import SCOPE_PUBLIC, Scope

AS_THEY_COME_OF_TENANT = 16
AS_THEY_COME_IN_ALL = 64
"""Calls whose body is read at once: of one tenant, and of all of them."""
IN_TURN_OF_TENANT = 4
IN_TURN_IN_ALL = 16
"""Bodies of further calls that are read at the same time."""
BODY_SECONDS = 10.0
"""How long each of those may take to come."""
STREAMS_OF_TENANT = 32
STREAMS_IN_ALL = 128
"""Open streams of requests: the frame that each waits for may come whole at any moment."""
SMALL_BYTES = 64 * 1024
"""Requests up to this size are not counted: they are in the window of their stream anyway."""
BYTES_OF_TENANT = 32 * 1024 * 1024
BYTES_IN_ALL = 128 * 1024 * 1024
"""Larger ones that are being served: of one tenant, and of all of them."""


class Bodies:
    """Those of one server. `is_relayed` tells calls that another part of the mesh has let in."""

    def __init__(self, is_relayed: Callable[[Context], bool]) -> None:
        self._is_relayed = is_relayed
        self._coming: dict[asyncio.Task[Any], Hashable] = {}
        self._coming_of: Counter[Hashable] = Counter()
        self._readers = Readers(IN_TURN_OF_TENANT, IN_TURN_IN_ALL, partial(_too_many, "request_bodies"))
        self._streams = Places(STREAMS_OF_TENANT, STREAMS_IN_ALL, partial(_too_many, "request_streams"))
        self._bytes: Counter[Hashable] = Counter()
        self._all_bytes = 0

    def begin(self, identity: Identity) -> bool:
        """Whether the body of the call that this task serves may be read as it comes; else `read` does it."""
        if identity.role is not Role.TENANT:
            return True
        tenant = identity.tenant_id
        if self._coming_of[tenant] >= AS_THEY_COME_OF_TENANT or len(self._coming) >= AS_THEY_COME_IN_ALL:
            return False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gRPC serves each call in a task
        self._coming[task] = tenant
        self._coming_of[tenant] += 1
        task.add_done_callback(self._came)  # its caller may leave before the body has come
        return True

    def came(self) -> None:
        """The body of the call that this task serves is there."""
        task = asyncio.current_task()
        if task in self._coming:
            self._came(task)

    async def read(self, requests: AsyncIterator[bytes], identity: Identity) -> bytes:
        """The body of a call with one request that is served as a stream. Raises `ResourceExhausted` when
        there is no turn for it, `DeadlineExceeded` when it does not come.
        """
        if identity.role is not Role.TENANT:
            return there(await anext(requests, None))
        return there(await self._readers.read(requests, identity.tenant_id, BODY_SECONDS))

    def holding(self, body: Serve, scope: Scope.ValueType) -> Serve:
        """`body`, the handler of one request as bytes, that raises `ResourceExhausted` for a large one while
        its tenant, or all of them, have too many bytes of such.
        """
        if scope == SCOPE_PUBLIC:
            return body

        async def serve(request: bytes, context: Context) -> Any:
            if len(request) <= SMALL_BYTES:
                return await body(request, context)
            return await self._hold(body, request, context)

        return serve

    def streaming(self, body: Serve) -> Serve:
        """`body`, the handler of a stream of requests, that raises `ResourceExhausted` where too many are
        open.
        """

        async def serve(requests: Any, context: Context) -> Any:
            identity = current_identity()
            if identity.role is not Role.TENANT:
                return await body(requests, context)
            with ExitStack() as place:
                try:
                    place.enter_context(self._streams.taken(identity.tenant_id))
                except ResourceExhausted:
                    await read_out(requests)
                    raise
                return await body(requests, context)

        return serve

    async def _hold(self, body: Serve, request: bytes, context: Context) -> Any:
        identity = current_identity()
        passed_on = isinstance(context, BatchedContext) or self._is_relayed(context)
        if identity.role is not Role.TENANT or passed_on:
            return await body(request, context)
        with self._room(identity.tenant_id, len(request)):
            return await body(request, context)

    @contextmanager
    def _room(self, tenant: Hashable, size: int) -> Iterator[None]:
        if self._bytes[tenant] + size > BYTES_OF_TENANT or self._all_bytes + size > BYTES_IN_ALL:
            raise _too_many("request_bytes")
        self._bytes[tenant] += size
        self._all_bytes += size
        try:
            yield
        finally:
            self._all_bytes -= size
            _take_off(self._bytes, tenant, size)

    def _came(self, task: asyncio.Task[Any]) -> None:
        tenant = self._coming.pop(task, None)
        if tenant is not None:
            _take_off(self._coming_of, tenant, 1)


def _take_off(counts: Counter[Hashable], tenant: Hashable, number: int) -> None:
    counts[tenant] -= number
    if not counts[tenant]:
        del counts[tenant]


def _too_many(quota: str) -> ResourceExhausted:
    return ResourceExhausted(_REASONS[quota], "RATE_LIMITED", quota=quota, retry_after=_RETRY_SECONDS)


_RETRY_SECONDS = 1.0
_REASONS = {
    "request_bodies": "too many requests of the tenant wait to be read",
    "request_streams": "too many streams of requests of the tenant are open",
    "request_bytes": "the large requests of the tenant that are being served have too many bytes",
}
