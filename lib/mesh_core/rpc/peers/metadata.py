"""Metadata of calls between parts of the mesh: its form on a connection, and what is passed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from grpc.aio import ServicerContext

from mesh_core.rpc.auth import Role, current_identity
from mesh_core.telemetry.tracing import current_traceparent
from sessionmesh.internal.v1.peer_pb2 import MetadataEntry

Metadata = Sequence[tuple[str, str | bytes]]


def entries(metadata: Iterable[tuple[str, str | bytes]]) -> list[MetadataEntry]:
    """Metadata as it is sent on a peer connection."""
    return [
        MetadataEntry(key=key, value=value.encode() if isinstance(value, str) else value)
        for key, value in metadata
    ]


def pairs(received: Iterable[MetadataEntry]) -> Metadata:
    """Received metadata as gRPC gives it: bytes for keys that end in -bin, else text."""
    return [
        (entry.key, entry.value if entry.key.endswith("-bin") else entry.value.decode("latin-1"))
        for entry in received
    ]


def forwarded_metadata(context: ServicerContext[Any, Any]) -> list[tuple[str, str | bytes]]:
    """The metadata to send when the call that this task serves is passed on to another part of the mesh."""
    from_mesh = current_identity().role is Role.MESH
    received: Any = context.invocation_metadata()  # pairs; never None on a server
    return forwarded(received, current_traceparent(), from_mesh=from_mesh)


def forwarded(
    received: Iterable[tuple[str, str | bytes]], traceparent: str, *, from_mesh: bool
) -> list[tuple[str, str | bytes]]:
    """`received` without hop-by-hop keys, with `traceparent` in place of the caller's.

    Internal keys (`x-mesh-...`) are kept only when the caller is part of the mesh. The epoch that an xDS
    client attached (`x-google-rls-data`) is dropped: it belongs to the owner which that client chose.
    """
    sent: list[tuple[str, str | bytes]] = [
        (key, value)
        for key, value in received
        if key not in _HOP_BY_HOP and not key.startswith("grpc-") and (from_mesh or key[:7] != "x-mesh-")
    ]
    if traceparent:
        sent.append(("traceparent", traceparent))
    return sent


_HOP_BY_HOP = frozenset(
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
