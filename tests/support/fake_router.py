"""A gRPC server that a test fills with what it wants of a router: for what a real one does too seldom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from mesh_core.errors import MeshError
from mesh_core.rpc.server.status import trailing_metadata

Add = Callable[[Any, Any], None]


@dataclass
class FakeRouter:
    """`address` stays the same over `stop` and `start`."""

    services: Mapping[Add, object]
    address: str = "127.0.0.1:0"
    credentials: grpc.ServerCredentials | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for add, servicer in self.services.items():
            add(servicer, self._server)
        self.health: Any = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        if self.credentials is None:
            port = self._server.add_insecure_port(self.address)
        else:
            port = self._server.add_secure_port(self.address, self.credentials)
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def set_healthy(self, healthy: bool) -> None:
        status = health_pb2.HealthCheckResponse
        await self.health.set("", status.SERVING if healthy else status.NOT_SERVING)

    async def kill(self) -> None:
        """End every call and connection at once."""
        await self._server.stop(None)


@asynccontextmanager
async def fake_router(
    services: Mapping[Add, object],
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[FakeRouter]:
    router = FakeRouter(services, address, credentials)
    await router.start()
    try:
        yield router
    finally:
        await router.kill()


async def refuse(context: Any, error: MeshError) -> None:
    """End the call as the mesh does."""
    await context.abort(error.code, error.message, trailing_metadata(error))


async def break_off(context: Any) -> None:
    """End the call as a connection that broke does: without a word of the mesh."""
    await context.abort(StatusCode.UNAVAILABLE, "Socket closed")
