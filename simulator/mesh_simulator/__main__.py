"""`python -m mesh_simulator`: the simulated network and its SimulatorService."""

from __future__ import annotations

from uuid import UUID

import structlog

from mesh_core import ids
from mesh_core.errors import StartupError
from mesh_core.etcd import Etcd, EtcdUnavailable
from mesh_core.etcd.discovery import Registration, ServiceInfo, register
from mesh_core.process.service import Stop, run
from mesh_core.rpc.auth import KeyAuthenticator, KeyRow
from mesh_core.rpc.server import Server
from mesh_core.tasks import Supervisor
from mesh_simulator.network import Network
from mesh_simulator.service import SimulatorServicer
from mesh_simulator.settings import Settings
from sessionmesh.simulator.v1 import simulator_pb2_grpc

logger = structlog.get_logger(__name__)


async def main(settings: Settings, stop: Stop) -> None:
    """Settings, parts, serve, wait for a signal, drain, stop."""
    network = Network(settings.simulator)
    server = Server(settings.server, authenticator=KeyAuthenticator(no_other_keys, settings.auth))
    server.add(simulator_pb2_grpc.add_SimulatorServiceServicer_to_server, SimulatorServicer(network))
    async with Supervisor(stop.fail) as supervisor:
        await network.start()
        supervisor.start("simulated network timers", network.timers.run())
        await server.start()
        logger.info("simulated network ready", network=network.address, grpc=server.address)
        etcd = Etcd(settings.etcd) if settings.etcd.endpoints else None
        registration = await _register(settings, etcd, server, supervisor) if etcd else None

        await stop.wait()
        if registration is not None:
            await registration.stop()
        await server.drain()
        await server.stop()
        await network.close()
    if etcd is not None:
        await etcd.close()


async def no_other_keys(key_id: UUID) -> KeyRow | None:
    """Only the bootstrap key and the mesh key open this service: it has no database."""
    return None


async def _register(settings: Settings, etcd: Etcd, server: Server, supervisor: Supervisor) -> Registration:
    """Let routers find SimulatorService."""
    instance = ServiceInfo(
        id=str(ids.new_uuid()), address=server.address, tls=bool(settings.server.tls_certificate)
    )
    try:
        return await register(etcd, settings.cluster.name, "simulator", instance, supervisor=supervisor)
    except EtcdUnavailable as error:
        raise StartupError(f"etcd does not answer: {error}") from None


if __name__ == "__main__":
    run("sessionmesh-simulator", Settings, main)
