"""How every client of ours connects to an etcd member."""

from __future__ import annotations

from pathlib import Path

import grpc

from mesh_core.settings import EtcdSettings

CHANNEL_OPTIONS = (
    # A frozen member is noticed in 6 s; etcd answers pings closer than 5 s apart with GOAWAY.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.http2.ping_timeout_ms", 3000),
    # etcd takes pings on a connection without a call for an attack; those that matter have a watch or a beat.
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 << 20),
    # Channels to one address share a connection unless told otherwise, and with it each other's failures.
    ("grpc.use_local_subchannel_pool", 1),
)


def channel_credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    """TLS as the settings say; None for plain text."""
    if not settings.ca:
        return None
    pair = [Path(path).read_bytes() if path else None for path in (settings.key, settings.certificate)]
    return grpc.ssl_channel_credentials(Path(settings.ca).read_bytes(), *pair)
