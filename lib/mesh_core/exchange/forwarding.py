"""Which metadata of a call goes on to whoever serves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grpc.aio import ServicerContext

from mesh_core.auth import Role, current_identity
from mesh_core.telemetry.tracing import current_traceparent


def forwarded_metadata(context: ServicerContext[Any, Any]) -> list[tuple[str, str | bytes]]:
    """The metadata of the call that this task serves, when it goes on to another part of the mesh."""
    from_mesh = current_identity().role is Role.MESH
    received: Any = context.invocation_metadata()  # pairs; never None on a server
    return forwarded(received, current_traceparent(), from_mesh=from_mesh)


def forwarded(
    received: Iterable[tuple[str, str | bytes]], traceparent: str, *, from_mesh: bool
) -> list[tuple[str, str | bytes]]:
    """`received` without what belongs to one connection, with `traceparent` in place of the caller's.

    Internal keys, `x-mesh-...`, are only taken from the mesh itself. The epoch that the caller was told with
    an owner's address says nothing of whom we have chosen.
    """
    sent: list[tuple[str, str | bytes]] = [
        (key, value)
        for key, value in received
        if key not in _OF_ONE_HOP and not key.startswith("grpc-") and (from_mesh or key[:7] != "x-mesh-")
    ]
    if traceparent:
        sent.append(("traceparent", traceparent))
    return sent


_OF_ONE_HOP = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-google-rls-data",
    }
)
