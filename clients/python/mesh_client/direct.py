"""The direct road: xDS, by which gRPC itself finds each account's owner and calls it."""

from __future__ import annotations

import grpc
import grpc.aio
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2

from mesh_client.methods import Method
from mesh_client.transport import ALIVE, Link, Tls

LISTENER = "xds:///sessionmesh"


def open_direct(target: str, tls: Tls | None) -> Link:
    """To an xDS target. Needs the running event loop, and the process's bootstrap."""
    # Without gRPC's own retries, which the mesh's routes ask for: they would multiply with this client's.
    options = [*ALIVE, ("grpc.enable_retries", 0)]
    if tls is None:
        return Link(target, grpc.aio.insecure_channel(target, options=options))
    # The fallback is for what the control plane gives no TLS settings for.
    credentials = grpc.xds_channel_credentials(tls.credentials())
    return Link(target, grpc.aio.secure_channel(target, credentials, options=options))


async def serves(link: Link, service: str, seconds: float) -> bool | None:
    """What is said at the other end about `service` ("" is the whole server); None when nothing is."""
    try:
        answer = await link.callable(_CHECK)(health_pb2.HealthCheckRequest(service=service), timeout=seconds)
    except AioRpcError as error:
        return False if error.code() in _NO else None
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


_CHECK = Method(
    path="/grpc.health.v1.Health/Check",
    kind="unary_unary",
    request=health_pb2.HealthCheckRequest,
    response=health_pb2.HealthCheckResponse,
    repeatable=True,
    by_account=False,
)
_NO = frozenset({StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED, StatusCode.UNAUTHENTICATED})
