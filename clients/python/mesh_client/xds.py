"""The xDS transport, by which gRPC itself finds each account's owner and calls it."""

from __future__ import annotations

import grpc
import grpc.aio
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2

from mesh_client.channels import CHANNEL_OPTIONS, MeshChannel, Tls
from mesh_client.methods import Method

LISTENER = "xds:///sessionmesh"


def open_xds_channel(target: str, tls: Tls | None) -> MeshChannel:
    """A channel to an xDS target. Needs a running event loop, and the process's bootstrap."""
    # The mesh's routes ask for gRPC's own retries, which would multiply with this client's.
    options = [*CHANNEL_OPTIONS, ("grpc.enable_retries", 0)]
    if tls is None:
        return MeshChannel(target, grpc.aio.insecure_channel(target, options=options))
    # gRPC falls back to these where the control plane gives no TLS settings.
    credentials = grpc.xds_channel_credentials(tls.credentials())
    return MeshChannel(target, grpc.aio.secure_channel(target, credentials, options=options))


async def is_serving(channel: MeshChannel, service: str, seconds: float) -> bool | None:
    """Whether the other end reports `service` as serving ("": the whole server); None without an answer."""
    try:
        answer = await channel.callable(_CHECK)(
            health_pb2.HealthCheckRequest(service=service), timeout=seconds
        )
    except AioRpcError as error:
        return False if error.code() in _NOT_SERVED else None
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


_CHECK = Method(
    path="/grpc.health.v1.Health/Check",
    kind="unary_unary",
    request=health_pb2.HealthCheckRequest,
    response=health_pb2.HealthCheckResponse,
    repeatable=True,
    by_account=False,
    request_id=False,
)
_NOT_SERVED = frozenset({StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED, StatusCode.UNAUTHENTICATED})
