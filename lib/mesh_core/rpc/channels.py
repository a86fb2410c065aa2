"""The client side of calls between the parts of the mesh."""

from __future__ import annotations

import grpc
import grpc.aio
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.options import connection_limits
from mesh_core.rpc.tls import ChannelTls
from mesh_core.telemetry.tracing import current_traceparent

Metadata = tuple[tuple[str, str], ...]


def open_channel(
    address: str, *, tls: ChannelTls | None = None, max_message_bytes: int = 8 * 1024 * 1024
) -> grpc.aio.Channel:
    """A channel to `address` (host:port, or any gRPC target). It connects at the first call.

    A peer that froze is noticed within 8 s, and the calls to it fail UNAVAILABLE.
    """
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 3_000),  # grpc.keepalive_timeout_ms has no effect in this version
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),  # closing a channel closes its connection
        ("grpc.enable_http_proxy", 0),  # http_proxy in the environment is not meant for the mesh's own calls
        *connection_limits(),
    ]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return grpc.aio.secure_channel(address, credentials, options=options)


class ChannelPool:
    """One channel per address, and more by number for who needs more streams than one may have."""

    def __init__(self, *, tls: ChannelTls | None = None, max_message_bytes: int = 8 * 1024 * 1024) -> None:
        self._tls = tls
        self._max_message_bytes = max_message_bytes
        self._channels: dict[str, dict[int, grpc.aio.Channel]] = {}

    def get(self, address: str, number: int = 0) -> grpc.aio.Channel:
        """The channel to `address` with that number, made when it is first asked for."""
        channels = self._channels.setdefault(address, {})
        channel = channels.get(number)
        if channel is None:
            channel = open_channel(address, tls=self._tls, max_message_bytes=self._max_message_bytes)
            channels[number] = channel
        return channel

    def addresses(self) -> set[str]:
        """Those that channels are open to."""
        return set(self._channels)

    async def discard(self, address: str) -> None:
        """Close the channels to an address that is gone; calls on them are cancelled."""
        for channel in self._channels.pop(address, {}).values():
            await channel.close()

    async def close(self) -> None:
        """Close all channels."""
        for address in [*self._channels]:
            await self.discard(address)


def mesh_metadata(mesh_key: str, tenant: UUID | None = None) -> Metadata:
    """The credentials of a part of the mesh, acting for `tenant` where one is given."""
    authorization = ("authorization", f"Bearer {mesh_key}")
    if tenant is None:
        return (authorization,)
    return authorization, ("x-mesh-tenant", ids.encode(Prefix.TENANT, tenant))


def call_metadata(credentials: Metadata = (), *, account_id: str = "") -> Metadata:
    """`credentials` with the current trace, and with the account that a call is routed by."""
    traceparent = current_traceparent()
    if traceparent:
        credentials = (*credentials, ("traceparent", traceparent))
    if account_id:
        credentials = (*credentials, ("x-account-id", account_id))
    return credentials
