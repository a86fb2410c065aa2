"""gRPC channels to a mesh."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from mesh_client.methods import Method


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM contents. Without `ca` the system's authorities are trusted; certificate and key are for mTLS."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)

    def credentials(self) -> grpc.ChannelCredentials:
        """The same as gRPC takes it."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


@dataclass(slots=True, eq=False)
class MeshChannel:
    """A channel, and the callables that were made for it."""

    target: str
    channel: grpc.aio.Channel
    _callables: dict[str, Any] = field(default_factory=dict)

    def callable(self, method: Method) -> Any:
        """gRPC's callable of the method."""
        found = self._callables.get(method.path)
        if found is None:
            make = getattr(self.channel, method.kind)
            found = make(method.path, method.request.SerializeToString, method.response.FromString)
            self._callables[method.path] = found
        return found

    def state(self) -> grpc.ChannelConnectivity:
        """The connection's state; makes an idle channel connect."""
        return self.channel.get_state(try_to_connect=True)


def open_channel(target: str, tls: Tls | None) -> MeshChannel:
    """A channel to `target`, host:port or any gRPC target. Needs a running event loop; connects when used."""
    options = list(_OWN_OPTIONS)
    if target.startswith("dns:"):
        options.append(("grpc.service_config", _ROUND_ROBIN))
    if tls is None:
        return MeshChannel(target, grpc.aio.insecure_channel(target, options=options))
    return MeshChannel(target, grpc.aio.secure_channel(target, tls.credentials(), options=options))


CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
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
"""The arguments of every channel."""
_OWN_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *CHANNEL_OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),  # closing the client closes its connection
)
_ROUND_ROBIN = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
)
