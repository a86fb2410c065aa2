"""What both clients have in common: how they reach a member of etcd, and how long a lease holds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from mesh_core.metrics.certificates import show_expiry
from mesh_core.settings import EtcdSettings

CHANNEL_OPTIONS = (
    # Notices a member that froze. etcd ends connections (GOAWAY) that ping more often than every 5 s.
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.http2.ping_timeout_ms", 3000),
    # etcd takes pings without a call for an attack. Connections that matter have a watch or lease calls.
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 << 20),
    # Channels to one address share a connection unless told otherwise, and with it each other's failures.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),  # http_proxy in the environment is not meant for etcd
)


def channel_credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    """What the settings say of TLS; None for plain text."""
    if not settings.ca:
        return None
    ca = Path(settings.ca).read_bytes()
    pair = [Path(path).read_bytes() if path else None for path in (settings.key, settings.certificate)]
    show_expiry("etcd_ca", ca)
    if pair[1] is not None:
        show_expiry("etcd", pair[1])
    return grpc.ssl_channel_credentials(ca, *pair)


def boottime() -> float:
    """Seconds on CLOCK_BOOTTIME: monotonic, and it goes on while the machine sleeps, as a lease does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class LeaseBeat:
    """An answer of etcd: lease `id` lives for `ttl` more seconds, counted from `sent` (boottime) or later.

    `sent` is when the question left: etcd counts from when it came in.
    """

    id: int
    ttl: int
    sent: float

    @property
    def deadline(self) -> float:
        """The instant (boottime) until which etcd surely keeps the lease."""
        return self.sent + self.ttl
