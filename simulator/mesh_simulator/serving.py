"""How SimulatorService is served, whatever network is behind it."""

from __future__ import annotations

from uuid import UUID

import structlog

from mesh_core import ids
from mesh_core.errors import StartupError
from mesh_core.etcd import Etcd, EtcdUnavailable
from mesh_core.etcd.discovery import Registration, ServiceInfo, register
from mesh_core.process.service import Stop, service_version
from mesh_core.rpc.auth import KeyAuthenticator, KeyRow
from mesh_core.rpc.server import Server
from mesh_core.tasks import Supervisor
from mesh_simulator.settings import Settings
from sessionmesh.simulator.v1 import simulator_pb2_grpc

logger = structlog.get_logger(__name__)


async def serve(
    settings: Settings,
    stop: Stop,
    supervisor: Supervisor,
    servicer: simulator_pb2_grpc.SimulatorServiceServicer,
    network: str,
) -> None:
    """Serve, found by routers, until the process is to end; `network` is where session-nodes connect to."""
    server = Server(settings.server, authenticator=KeyAuthenticator(no_other_keys, settings.auth))
    server.add(simulator_pb2_grpc.add_SimulatorServiceServicer_to_server, servicer)
    await server.start()
    logger.info("simulated network ready", network=network, grpc=server.address)
    etcd = Etcd(settings.etcd) if settings.etcd.endpoints else None
    registration = await _register(settings, etcd, server, supervisor) if etcd else None
    await stop.wait()
    if registration is not None:
        await registration.stop()
    await server.drain()
    await server.stop()
    if etcd is not None:
        await etcd.close()


async def no_other_keys(key_id: UUID) -> KeyRow | None:
    """Only the bootstrap key and the mesh key open this service: it has no database."""
    return None


async def _register(settings: Settings, etcd: Etcd, server: Server, supervisor: Supervisor) -> Registration:
    """Let routers find SimulatorService."""
    instance = ServiceInfo(
        id=str(ids.new_uuid()),
        address=server.address,
        tls=bool(settings.server.tls_certificate),
        version=service_version(),
        metrics=server.metrics_address,
    )
    try:
        return await register(etcd, settings.cluster.name, "simulator", instance, supervisor=supervisor)
    except EtcdUnavailable as error:
        raise StartupError(f"etcd does not answer: {error}") from None
