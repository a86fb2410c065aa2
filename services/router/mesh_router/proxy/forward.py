"""Forwarding: one handler per method, of raw bytes, for all four kinds of calls.

A call goes to its target with the caller's deadline and metadata; responses, metadata, status and error
details come back as they are. Where nobody serves the account just now, the call waits. A single request that
was refused by a node which no longer owns the account, or which drains, is sent again to whoever does; so is
one whose connection broke, when sending it twice is harmless. A stream that had responses already ends with
GOING_AWAY instead: its caller opens it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from random import random
from typing import Any

import grpc
from grpc import StatusCode
from grpc.aio import AioRpcError, ServicerContext

from mesh_core.errors import Cancelled, DeadlineExceeded, InvalidField, MeshError, ResourceExhausted
from mesh_core.rpc.limits import STREAMED_FRAME_BYTES
from mesh_core.rpc.peers import CallFailed
from mesh_core.rpc.peers.metadata import forwarded_metadata
from mesh_core.rpc.server import Server, finishes
from mesh_core.rpc.server.calls import READ_OUT
from mesh_router.proxy.account_id import METADATA_KEY, account_shard
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
        unary = self._peers.unary

        async def serve(request: bytes, context: Context) -> bytes:
            attempt = _Attempts(self._finder(route, request, context), context)
            metadata = forwarded_metadata(context)
            while True:
                target = await attempt.target()
                try:
                    response = await unary(target.address, route, request, metadata, context.time_remaining())
                except CallFailed as failed:
                    if not attempt.may_repeat(failed, route):
                        await _pass_on(failed, context, attempt)
                else:
                    if response.initial:
                        await context.send_initial_metadata(tuple(response.initial))
                    if response.trailing:
                        context.set_trailing_metadata(tuple(response.trailing))
                    return response.body
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
                    failed = CallFailed.of(error)
                    if answered:
                        await _pass_on_interrupted(failed, context, attempt)
                    if not attempt.may_repeat(failed, route):
                        await _pass_on(failed, context, attempt)
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
            frames = _small_enough(first, requests)
            sending = asyncio.create_task(send_all(call, frames), name=f"send {route.path}")
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
                if not route.response_streaming:  # an upload: see the chassis
                    await asyncio.wait([sending], timeout=READ_OUT)
                await _pass_on(CallFailed.of(error), context, attempt)
            except asyncio.CancelledError:
                if _cancelled_by_caller():
                    raise
                if sending.done():
                    sending.result()  # raises what ended the call from our side
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

    def may_repeat(self, failed: CallFailed, route: Route) -> bool:
        """Whether the same request may be sent again, after it failed like this."""
        if failed.code is not StatusCode.UNAVAILABLE or asyncio.get_running_loop().time() >= self._deadline:
            return False
        if not failed.begun or failed.reason in _NOT_HERE:
            return True
        return failed.reason == "" and route.repeatable

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


async def _pass_on(failed: CallFailed, context: Context, attempt: _Attempts) -> None:
    """End the call as it ended there. Without details gRPC itself failed, and we say why. Always raises."""
    if failed.reason == "":
        if failed.code is StatusCode.UNAVAILABLE:
            raise attempt.unavailable() from failed
        if failed.code in _EXPLAINED:
            kind, reason = _EXPLAINED[failed.code]
            raise kind(failed.message or reason, reason) from failed
    await context.abort(failed.code, failed.message, tuple(failed.trailing))


async def _pass_on_interrupted(failed: CallFailed, context: Context, attempt: _Attempts) -> None:
    """End a stream that had responses already. Where its server is lost, or lost the account, the caller is
    told to open it again, which leads to whoever serves it then. Always raises.
    """
    if failed.code is StatusCode.UNAVAILABLE and failed.reason in _LOST:
        raise GoingAway from failed
    await _pass_on(failed, context, attempt)


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


async def _small_enough(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All frames; raises `ResourceExhausted` at one that is too large to be held while it is written.

    It also ends when the caller is gone, or sent more than gRPC takes: who serves must know the whole's size.
    """
    frame = first
    while True:
        if len(frame) > STREAMED_FRAME_BYTES:
            raise ResourceExhausted(
                f"a frame has {len(frame):,} bytes; at most {STREAMED_FRAME_BYTES:,} are taken",
                "MESSAGE_TOO_LARGE",
            )
        yield frame
        try:
            frame = await anext(rest)
        except StopAsyncIteration:
            return


def _cancelled_by_caller() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
_FINISHING = frozenset({"DownloadMedia"})
_NOT_HERE = frozenset({"NOT_OWNER", "GOING_AWAY"})
"""Reasons of a refusal before anything was done, which somebody else may not share."""
_LOST = frozenset({"", "NOT_OWNER"})
"""Reasons of a stream's end that its server could not give, or that concern the server alone."""
_EXPLAINED: dict[grpc.StatusCode, tuple[Callable[[str, str], MeshError], str]] = {
    StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "DEADLINE_EXCEEDED"),
    StatusCode.CANCELLED: (Cancelled, "CANCELLED"),
    StatusCode.RESOURCE_EXHAUSTED: (ResourceExhausted, "MESSAGE_TOO_LARGE"),
}
