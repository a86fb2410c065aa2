"""Connections to a mesh."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from mesh_client.methods import Method


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM contents; without `ca` the system's authorities count. Certificate and key are for mTLS."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


@dataclass(slots=True, eq=False)
class Link:
    """A channel, and what it takes to call through it."""

    target: str
    channel: grpc.aio.Channel
    _callables: dict[str, Any] = field(default_factory=dict)

    def callable(self, method: Method) -> Any:
        """gRPC's own callable of the method."""
        found = self._callables.get(method.path)
        if found is None:
            make = getattr(self.channel, method.kind)
            found = make(method.path, method.request.SerializeToString, method.response.FromString)
            self._callables[method.path] = found
        return found

    def state(self) -> grpc.ChannelConnectivity:
        """Of the connection; asks for one where there is none."""
        return self.channel.get_state(try_to_connect=True)


def open_link(target: str, tls: Tls | None) -> Link:
    """To `target`, host:port or any gRPC target. Needs the running event loop; connects when asked to."""
    options = list(_OPTIONS)
    if target.startswith("dns:"):
        options.append(("grpc.service_config", _ROUND_ROBIN))
    if tls is None:
        return Link(target, grpc.aio.insecure_channel(target, options=options))
    return Link(target, grpc.aio.secure_channel(target, tls.credentials(), options=options))


ALIVE: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.max_send_message_length", 8 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 3_000),  # grpc.keepalive_timeout_ms has no effect in this version
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # also how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
)
"""Channel arguments of every road."""
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *ALIVE,
    ("grpc.use_local_subchannel_pool", 1),  # closing the client closes its connection
)
_ROUND_ROBIN = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)
