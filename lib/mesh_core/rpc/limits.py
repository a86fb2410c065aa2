"""What bounds the memory of a connection, on both of its sides: gRPC's options, the same for all parts."""

from __future__ import annotations

METADATA_BYTES = 16 * 1024
"""Most that all metadata of a call may have, as HTTP/2 counts: names, values and 32 bytes for each pair."""

STREAM_WINDOW_BYTES = 64 * 1024
"""What a stream may send before it is read. A message that is being read may come whole.

By default gRPC grows this window with the speed of the connection, to several megabytes: a thousand streams
that nobody reads would then take gigabytes.
"""

STREAMED_FRAME_BYTES = 1024 * 1024 + 64 * 1024
"""Largest frame of a request stream that is forwarded: an upload's chunk of 1 MiB, and what is around it."""


def connection_limits() -> list[tuple[str, int]]:
    """The channel arguments that say so."""
    return [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", STREAM_WINDOW_BYTES),
        # The one is where refusing begins, the other where it is certain.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ]
