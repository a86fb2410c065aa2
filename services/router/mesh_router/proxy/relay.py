"""Relays what an endpoint answered besides messages: metadata, status and error details, as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc import StatusCode
from grpc.aio import ServicerContext

from mesh_core.errors import Cancelled, DeadlineExceeded, GoingAway, MeshError, ResourceExhausted
from mesh_core.rpc.peers import CallFailed
from mesh_router.proxy.retry import Attempts

Context = ServicerContext[Any, Any]


async def relay_failure(failed: CallFailed, context: Context, attempts: Attempts) -> None:
    """End the caller's call as the endpoint's call ended. Always raises.

    A failure without error details is gRPC's own, such as a broken connection: the caller is told what it
    means for the call.
    """
    if failed.reason == "":
        if failed.code is StatusCode.UNAVAILABLE:
            raise attempts.unavailable() from failed
        if failed.code in _EXPLAINED:
            kind, reason = _EXPLAINED[failed.code]
            raise kind(failed.message or reason, reason) from failed
    await context.abort(failed.code, failed.message, tuple(failed.trailing))


async def relay_interruption(failed: CallFailed, context: Context, attempts: Attempts) -> None:
    """End a stream that had responses before it failed. Always raises.

    When its server died or lost the account the caller is told GOING_AWAY: opened again, the stream reaches
    whoever serves it then.
    """
    if failed.code is StatusCode.UNAVAILABLE and failed.reason in _SERVER_LOST:
        raise GoingAway from failed
    await relay_failure(failed, context, attempts)


async def relay_cancellation(call: Any) -> None:
    """The endpoint ended the stream with CANCELLED, which grpc.aio raises here as `CancelledError`."""
    raise Cancelled(await call.details() or "the call was cancelled", "CANCELLED")


async def relay_initial_metadata(call: Any, context: Context) -> None:
    """Send the caller the initial metadata of `call`, once they are there."""
    initial = await call.initial_metadata()
    if initial:
        await context.send_initial_metadata(tuple(initial))


async def relay_trailing_metadata(call: Any, context: Context) -> None:
    """Let the caller's call end with the trailing metadata of `call`, once it has ended."""
    trailing = await call.trailing_metadata()
    if trailing:
        context.set_trailing_metadata(tuple(trailing))


def cancelled_by_caller() -> bool:
    """Whether a `CancelledError` is this task's own, rather than one that grpc.aio raised for a call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_SERVER_LOST = frozenset({"", "NOT_OWNER"})
"""Reasons of an UNAVAILABLE: none, as the connection broke, or that the account has moved."""
_EXPLAINED: dict[grpc.StatusCode, tuple[Callable[[str, str], MeshError], str]] = {
    StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "DEADLINE_EXCEEDED"),
    StatusCode.CANCELLED: (Cancelled, "CANCELLED"),
    StatusCode.RESOURCE_EXHAUSTED: (ResourceExhausted, "MESSAGE_TOO_LARGE"),
}
