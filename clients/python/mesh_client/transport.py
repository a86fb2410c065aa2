"""The connection to a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM contents; without `ca` the system's authorities count. Certificate and key are for mTLS."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None


def open_channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    """A channel to `target`, host:port or any gRPC target. It connects at the first call."""
    if tls is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


_OPTIONS = [
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.max_send_message_length", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # grpc.keepalive_timeout_ms has no effect in this version
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # closing the client closes its connection
]
