"""Forwards every method of the other parts of the mesh as raw bytes, one handler per method.

A call goes to its endpoint with the caller's deadline and metadata; responses, metadata, status and error
details come back as they are. Without an endpoint it waits for one. `unary` and `streaming` are the
handlers, `retry` decides on another attempt, `relay` hands the outcome back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mesh_core.rpc.account_id import METADATA_KEY, account_shard
from mesh_core.rpc.server import Server
from mesh_router.proxy.resolver import (
    ClusterView,
    Directory,
    InstanceResolver,
    NodeResolver,
    OwnerResolver,
    Resolver,
    RoundRobin,
)
from mesh_router.proxy.routes import Destination, Route, routes
from mesh_router.proxy.streaming import request_stream_handler, response_stream_handler
from mesh_router.proxy.unary import Context, unary_handler
from mesh_router.proxy.upstreams import Upstreams


class Forwarder:
    """Serves every forwarded method on a `Server`. `directories` has one for each kind of `KINDS`."""

    def __init__(self, view: ClusterView, directories: Mapping[str, Directory], upstreams: Upstreams) -> None:
        self._view = view
        self._directories = directories
        self._upstreams = upstreams
        self._round_robin = RoundRobin(asyncio.get_running_loop().time)

    def serve_on(self, server: Server) -> None:
        """Add the handlers, with the scopes that the protos demand."""
        handlers: dict[str, dict[str, Callable[..., Awaitable[Any]]]] = {}
        for route in routes():
            handlers.setdefault(route.service, {})[route.name] = self.handler(route)
        for service, methods in handlers.items():
            server.add_bytes(service, methods)

    def handler(self, route: Route) -> Callable[..., Awaitable[Any]]:
        """The handler of one method."""
        if route.request_streaming:
            return request_stream_handler(route, self._upstreams, self._resolver)
        if route.response_streaming:
            return response_stream_handler(route, self._upstreams, self._resolver)
        return unary_handler(route, self._upstreams, self._resolver)

    def _resolver(self, route: Route, first: bytes, context: Context) -> Resolver:
        if route.destination is Destination.OWNER:
            named = ""
            metadata: Any = context.invocation_metadata()  # pairs; never None on a server
            for key, value in metadata:
                if key == METADATA_KEY:
                    named = value
            return OwnerResolver(self._view, account_shard(first, named))
        if route.destination is Destination.ANY_NODE:
            return NodeResolver(self._view, self._round_robin)
        kind = route.destination.value
        return InstanceResolver(self._directories[kind], self._round_robin, kind)
