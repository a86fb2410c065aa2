"""Forwarding: one handler per method, of raw bytes, for all four kinds of calls.

A call goes to its target with the caller's deadline and metadata; responses, metadata, status and error
details come back as they are. Where nobody serves the account just now, the call waits. A unary request that
was refused by a node which no longer owns the account is sent again to whoever does; so is one whose
connection broke, when sending it twice is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import random
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError, ServicerContext

from mesh_core.auth import Role, current_identity
from mesh_core.errors import Cancelled, DeadlineExceeded, InvalidField, MeshError, ResourceExhausted
from mesh_core.server import Server, finishes
from mesh_core.telemetry.tracing import current_traceparent
from mesh_router.proxy.account_id import METADATA_KEY, account_shard
from mesh_router.proxy.metadata import forwarded
from mesh_router.proxy.peers import Peers
from mesh_router.proxy.routes import Route, Toward, routes
from mesh_router.proxy.sending import send_all
from mesh_router.proxy.targets import (
    Directory,
    Finder,
    InstanceFinder,
    NodeFinder,
    OwnerFinder,
    Ownership,
    Target,
    Turns,
)

Context = ServicerContext[Any, Any]

WAIT_WITHOUT_DEADLINE = 10.0
"""Seconds that a call without a deadline waits for somebody to serve it."""


class Forwarder:
    """Serves every forwarded method on a `Server`. `directories` has one for each kind of `KINDS`."""

    def __init__(self, view: Ownership, directories: Mapping[str, Directory], peers: Peers) -> None:
        self._view = view
        self._directories = directories
        self._peers = peers
        self._turns = Turns(asyncio.get_running_loop().time)

    def serve_on(self, server: Server) -> None:
        """Add the handlers, method by method, with the scopes of their protos."""
        handlers: dict[str, dict[str, Callable[..., Awaitable[Any]]]] = {}
        for route in routes():
            handlers.setdefault(route.service, {})[route.name] = self.handler(route)
        for service, methods in handlers.items():
            server.add_bytes(service, methods)

    def handler(self, route: Route) -> Callable[..., Awaitable[Any]]:
        """The handler of one method."""
        if route.request_streaming:
            return self._streaming_request(route)
        if route.response_streaming:
            return self._streaming_response(route)
        return self._unary(route)

    def _unary(self, route: Route) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def serve(request: bytes, context: Context) -> bytes:
            attempt = _Attempts(self._finder(route, request, context), context)
            metadata = forwarded_metadata(context)
            while True:
                target = await attempt.target()
                call = self._peers.callable(target.address, route)(
                    request, timeout=context.time_remaining(), metadata=metadata
                )
                try:
                    response: bytes = await call
                except AioRpcError as error:
                    if not attempt.may_repeat(error, route):
                        await _pass_on(error, context, attempt)
                except asyncio.CancelledError:
                    if _cancelled_by_caller():
                        raise
                    # The connection was closed under the call.
                    if not route.repeatable:
                        raise attempt.unavailable() from None
                else:
                    await _send_initial_metadata(call, context)
                    await _send_trailing_metadata(call, context)
                    return response
                await attempt.pause()

        return serve

    def _streaming_response(self, route: Route) -> Callable[[bytes, Context], Awaitable[None]]:
        async def serve(request: bytes, context: Context) -> None:
            attempt = _Attempts(self._finder(route, request, context), context)
            metadata = forwarded_metadata(context)
            while True:
                target = await attempt.target()
                call = self._peers.callable(target.address, route)(
                    request, timeout=context.time_remaining(), metadata=metadata
                )
                answered = False
                try:
                    await _send_initial_metadata(call, context)
                    async for response in call:
                        answered = True
                        await context.write(response)
                    await _send_trailing_metadata(call, context)
                    return  # noqa: TRY300 - the loop's else is the next attempt
                except AioRpcError as error:
                    if answered or not attempt.may_repeat(error, route):
                        await _pass_on(error, context, attempt)
                except asyncio.CancelledError:
                    if _cancelled_by_caller():
                        raise
                    await _pass_on_cancelled(call)
                finally:
                    call.cancel()
                await attempt.pause()

        return finishes(serve) if route.name in _FINISHING else serve

    def _streaming_request(self, route: Route) -> Callable[[AsyncIterator[bytes], Context], Awaitable[Any]]:
        async def serve(requests: AsyncIterator[bytes], context: Context) -> Any:
            try:
                first = await anext(requests)
            except StopAsyncIteration:
                raise InvalidField("frame", "the stream has none") from None
            attempt = _Attempts(self._finder(route, first, context), context)
            target = await attempt.target()
            call = self._peers.callable(target.address, route)(
                timeout=context.time_remaining(), metadata=forwarded_metadata(context)
            )
            sending = asyncio.create_task(send_all(call, _chain(first, requests)), name=f"send {route.path}")
            try:
                if not route.response_streaming:
                    response = await call
                    await _send_initial_metadata(call, context)
                    await _send_trailing_metadata(call, context)
                    return response
                await _send_initial_metadata(call, context)
                async for response in call:
                    await context.write(response)
                await _send_trailing_metadata(call, context)
            except AioRpcError as error:
                await _pass_on(error, context, attempt)
            except asyncio.CancelledError:
                if _cancelled_by_caller():
                    raise
                await _pass_on_cancelled(call)
            finally:
                call.cancel()
                sending.cancel()
            return None

        return serve

    def _finder(self, route: Route, first: bytes, context: Context) -> Finder:
        if route.toward is Toward.OWNER:
            named = ""
            metadata: Any = context.invocation_metadata()  # pairs; never None on a server
            for key, value in metadata:
                if key == METADATA_KEY:
                    named = value
            return OwnerFinder(self._view, account_shard(first, named))
        if route.toward is Toward.ANY_NODE:
            return NodeFinder(self._view, self._turns)
        kind = route.toward.value
        return InstanceFinder(self._directories[kind], self._turns, kind)


class _Attempts:
    """The attempts of one call: to whom, how long, and whether there is another one."""

    __slots__ = ("_deadline", "_finder", "_pause", "_target")

    def __init__(self, finder: Finder, context: Context) -> None:
        remaining = context.time_remaining()
        # A little before the caller's own deadline, so that he is told why instead of nothing.
        patience = WAIT_WITHOUT_DEADLINE if remaining is None else remaining - min(0.1, remaining / 10)
        self._deadline = asyncio.get_running_loop().time() + patience
        self._finder = finder
        self._pause = _FIRST_PAUSE
        self._target: Target | None = None

    async def target(self) -> Target:
        """Whom to send to."""
        target = self._finder.now()
        if target is None:
            target = await self._finder.wait(self._deadline)
        self._target = target
        return target

    def may_repeat(self, error: AioRpcError, route: Route) -> bool:
        """Whether the same request may be sent again, after it failed with `error`."""
        if error.code() is not StatusCode.UNAVAILABLE or asyncio.get_running_loop().time() >= self._deadline:
            return False
        reason = _reason(error)
        return reason == "NOT_OWNER" or (reason == "" and route.repeatable)

    async def pause(self) -> None:
        """Wait until another attempt is worth it; raises `Unavailable` when time is up."""
        now = asyncio.get_running_loop().time()
        if now >= self._deadline or self._target is None:
            raise self.unavailable()
        pause = min(self._pause * (0.5 + random()), self._deadline - now)  # noqa: S311 - jitter
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        await self._finder.after(self._target, pause)

    def unavailable(self) -> MeshError:
        """What to say when no attempt came through."""
        return self._finder.unavailable(self._target)


async def _pass_on(error: AioRpcError, context: Context, attempt: _Attempts) -> None:
    """End the call as it ended there. Without details gRPC itself failed, and we say why. Always raises."""
    code = error.code()
    trailing = tuple(error.trailing_metadata() or ())
    if not any(key == _DETAILS for key, _ in trailing):
        if code is StatusCode.UNAVAILABLE:
            raise attempt.unavailable() from error
        if code in _EXPLAINED:
            kind, reason = _EXPLAINED[code]
            raise kind(error.details() or reason, reason) from error
    await context.abort(code, error.details() or "", trailing)


async def _pass_on_cancelled(call: Any) -> None:
    """The other side ended the stream with CANCELLED, which grpc.aio shows as a cancellation of this task."""
    raise Cancelled(await call.details() or "the call was cancelled", "CANCELLED")


async def _send_initial_metadata(call: Any, context: Context) -> None:
    initial = await call.initial_metadata()
    if initial:
        await context.send_initial_metadata(tuple(initial))


async def _send_trailing_metadata(call: Any, context: Context) -> None:
    trailing = await call.trailing_metadata()
    if trailing:
        context.set_trailing_metadata(tuple(trailing))


def forwarded_metadata(context: Context) -> list[tuple[str, str | bytes]]:
    """The metadata of a call that goes on with it."""
    from_mesh = current_identity().role is Role.MESH
    received: Any = context.invocation_metadata()
    return forwarded(received, current_traceparent(), from_mesh=from_mesh)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for frame in rest:
        yield frame


def _cancelled_by_caller() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _reason(error: AioRpcError) -> str:
    """The `ErrorReason` of a failed call; "" when it has none: then it is gRPC's own, not the service's."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            try:
                for packed in status_pb2.Status.FromString(value).details:
                    if packed.Unpack(info):
                        return str(info.reason)
            except DecodeError:
                return "UNREADABLE"
            return "UNREADABLE"
    return ""


_DETAILS = "grpc-status-details-bin"
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
_FINISHING = frozenset({"DownloadMedia"})
_EXPLAINED: dict[grpc.StatusCode, tuple[Callable[[str, str], MeshError], str]] = {
    StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "DEADLINE_EXCEEDED"),
    StatusCode.CANCELLED: (Cancelled, "CANCELLED"),
    StatusCode.RESOURCE_EXHAUSTED: (ResourceExhausted, "MESSAGE_TOO_LARGE"),
}
