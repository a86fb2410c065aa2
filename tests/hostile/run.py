"""All of it on a mesh of its own: the figures, and what was wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio

from mesh_cli.up.state import StateDirectory
from mesh_core.settings import read
from mesh_webhook.__main__ import main
from mesh_webhook.settings import WebhookServiceSettings
from tests.hostile import cross_tenant, hosts, limits, loops
from tests.support.fuzz.world import World, open_world
from tests.support.mesh_process import MeshProcess
from tests.support.running import running
from tests.support.webhook_world import receiver

CAREFUL = {
    "MESH_WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "false",
    "MESH_WEBHOOK_ALLOW_HTTP": "true",
    "MESH_SERVER_LISTEN": "127.0.0.1:0",
    "MESH_CLUSTER_NAME": "careful",
}
"""What a webhook service is started with whose webhooks go to the internet alone."""


@dataclass(slots=True)
class Report:
    """Figures by name, and a line for each thing that is not as it should be."""

    figures: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def compare(self, name: str, all_of: Iterator[str] | list[str], good: list[str]) -> None:
        missing = sorted(set(all_of) - set(good))
        self.faults += [f"{name}: {one}" for one in missing]


async def try_everything(folder: Path, environment: dict[str, str]) -> Report:
    """Start a mesh in `folder`, and try it."""
    report = Report()
    mesh = MeshProcess(folder / "state", nodes=2, environment=environment | limits.ENVIRONMENT)
    try:
        mesh.start()
        async with (
            open_world(mesh.address, mesh.file.admin_key) as stranger,
            open_world(mesh.address, mesh.file.admin_key) as world,
        ):
            await _tenants(world, stranger, report)
            await _loops(mesh, world, report)
            await _limits(world, report)
            await _hosts(mesh, world, report)
    finally:
        mesh.ensure_gone()
    return report


async def _tenants(world: World, stranger: World, report: Report) -> None:
    calls, leaks = await cross_tenant.leaks(world, stranger)
    report.figures |= {"cross_tenant_calls": calls, "leaks": len(leaks)}
    report.faults += [f"leak: {leak}" for leak in leaks]


async def _loops(mesh: MeshProcess, world: World, report: Report) -> None:
    found = loops.running_loops(mesh)
    async with receiver() as server:
        alive = await loops.alive_when_poisoned(mesh, world, server)
    names = {f"{loop.part} {loop.task}" for loop in found}
    good = {f"{loop.part} {loop.task}" for loop in alive - loops.without_poison(found)}
    report.figures |= {"loops": len(names), "loops_poisoned_alive": len(names & good)}
    report.compare("loop", [*names], [*good])


async def _limits(world: World, report: Report) -> None:
    kept = await limits.refusing(world)
    report.figures |= {"limits": len(limits.names()), "limits_refusing": len(kept)}
    report.compare("limit", limits.names(), kept)


async def _hosts(mesh: MeshProcess, world: World, report: Report) -> None:
    async with _careful(mesh, world) as careful:
        refused = await hosts.refused(careful)
        if not await hosts.takes(careful, hosts.PUBLIC):
            report.faults.append(f"host: {hosts.PUBLIC} is refused as well")
    report.figures |= {"hosts": len(hosts.FORBIDDEN), "hosts_refused": len(refused)}
    report.compare("host", [*map(repr, hosts.FORBIDDEN)], [*map(repr, refused)])


@asynccontextmanager
async def _careful(mesh: MeshProcess, world: World) -> AsyncIterator[World]:
    """The same tenant at a webhook service beside the mesh's own, on the same servers."""
    secrets = StateDirectory(mesh.state).secrets()
    environment = mesh.file.servers | CAREFUL | {"MESH_SECRETS_MASTER_KEY": secrets.master_key}
    settings = read(WebhookServiceSettings, environment)
    async with (
        running("webhook", main, settings) as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        yield World(world.admin, world.tenant.on(channel))
