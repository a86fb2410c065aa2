"""Metadata on the wire of an exchange."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sessionmesh.internal.v1.exchange_pb2 import MetadataEntry

Metadata = Sequence[tuple[str, str | bytes]]


def entries(metadata: Iterable[tuple[str, str | bytes]]) -> list[MetadataEntry]:
    """To the wire."""
    return [
        MetadataEntry(key=key, value=value.encode() if isinstance(value, str) else value)
        for key, value in metadata
    ]


def pairs(received: Iterable[MetadataEntry]) -> Metadata:
    """From the wire: bytes for keys ending in -bin, else text, as gRPC gives them."""
    return [
        (entry.key, entry.value if entry.key.endswith("-bin") else entry.value.decode("latin-1"))
        for entry in received
    ]
