"""`python -m mesh_simulator`: the simulated network and its SimulatorService."""

from __future__ import annotations

from mesh_core.process.service import Stop, run
from mesh_core.tasks import Supervisor
from mesh_simulator.network import Network
from mesh_simulator.service import SimulatorServicer
from mesh_simulator.serving import serve
from mesh_simulator.settings import Settings


async def main(settings: Settings, stop: Stop) -> None:
    """Settings, parts, serve, wait for a signal, drain, stop."""
    network = Network(settings.simulator)
    async with Supervisor(stop.fail) as supervisor:
        await network.start()
        supervisor.start("simulated network timers", network.timers.run())
        await serve(settings, stop, supervisor, SimulatorServicer(network), network.address)
        await network.close()


if __name__ == "__main__":
    run("sessionmesh-simulator", Settings, main)
