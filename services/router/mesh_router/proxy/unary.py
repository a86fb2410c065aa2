"""Forwards unary calls, which are retried at another endpoint where that is safe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from grpc.aio import ServicerContext

from mesh_core.rpc.peers import CallFailed
from mesh_core.rpc.peers.metadata import forwarded_metadata
from mesh_router.proxy.relay import relay_failure
from mesh_router.proxy.resolver import Resolver
from mesh_router.proxy.retry import Attempts
from mesh_router.proxy.routes import Route
from mesh_router.proxy.upstreams import Upstreams

Context = ServicerContext[Any, Any]
Resolve = Callable[[Route, bytes, Context], Resolver]
"""The resolver of a call, by its route, its first request and its metadata."""


def unary_handler(
    route: Route, upstreams: Upstreams, resolve: Resolve
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    """The handler of a unary method, from bytes to bytes."""
    unary = upstreams.unary

    async def serve(request: bytes, context: Context) -> bytes:
        attempts = Attempts(resolve(route, request, context), context)
        metadata = forwarded_metadata(context)
        while True:
            endpoint = await attempts.endpoint()
            try:
                response = await unary(endpoint.address, route, request, metadata, context.time_remaining())
            except CallFailed as failed:
                if not attempts.may_retry(failed, route):
                    await relay_failure(failed, context, attempts)
            else:
                if response.initial:
                    await context.send_initial_metadata(tuple(response.initial))
                if response.trailing:
                    context.set_trailing_metadata(tuple(response.trailing))
                return response.body
            await attempts.backoff()

    return serve
