"""gRPC's options: what bounds the memory of a connection on both sides, and how servers keep it alive."""

from __future__ import annotations

import resource

from mesh_core.settings import ServerSettings

METADATA_BYTES = 16 * 1024
"""Most that all metadata of a call may have, as HTTP/2 counts: names, values and 32 bytes for each pair."""

STREAM_WINDOW_BYTES = 64 * 1024
"""What a stream may send before it is read. A message that is being read may come whole.

By default gRPC grows this window with the speed of the connection, to several megabytes: a thousand streams
that nobody reads would then take gigabytes.
"""

STREAMED_FRAME_BYTES = 1024 * 1024 + 64 * 1024
"""Largest frame of a request stream that is forwarded: an upload's chunk of 1 MiB, and what is around it."""

CONCURRENT_STREAMS = 2_000
"""Streams that a connection may have open; further ones wait at the caller. A caller may well watch each of
a thousand accounts. Of a caller that keeps more than these waiting some calls are refused (REFUSED_STREAM):
gRPC counts a stream here for a moment after its caller has seen the end of it.

That there is a limit is what matters against streams that are opened and reset at once: without one gRPC
queues them without end.
"""

PENDING_CALLS = 8_000
"""Calls that have come and were not begun yet, of all connections together; gRPC cancels some of those
beyond, whosever they are, and cannot share them out. So they are as many as four connections may open. Each
takes some 10 kB.
"""

MAX_CONNECTIONS = 10_000
"""Connections that a server takes, or half of the descriptors that the process may open, if that is less: the
rest is for its database, peers and files. gRPC cannot count them by address; a firewall can.
"""

HANDSHAKE_SECONDS = 10
"""How long a connection may take to say what it is, TLS included."""

IDLE_SECONDS = 300
"""How long a connection may be without a call. gRPC's clients connect again by themselves at the next one."""


def connection_limits() -> list[tuple[str, int]]:
    """Channel arguments for both sides that hold these limits."""
    return [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", STREAM_WINDOW_BYTES),
        # The one is where refusing begins, the other where it is certain.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ]


def server_options(settings: ServerSettings, *, shared_port: bool = False) -> list[tuple[str, int]]:
    """gRPC's channel arguments of a server."""
    return [
        ("grpc.so_reuseport", int(shared_port)),  # else two processes share a port without a word
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 3_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Channels ping every 5 s, also while nothing moves; oftener than this thrice ends a connection.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_concurrent_streams", CONCURRENT_STREAMS),
        ("grpc.server.max_pending_requests", PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS + CONCURRENT_STREAMS),
        ("grpc.max_allowed_incoming_connections", _connections()),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1_000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1_000),
        *connection_limits(),
    ]


def _connections() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS if descriptors == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, descriptors // 2)
    )
