"""What the chart renders, run: its commands, environment and probes, as the image's user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.deploy.compose_file import COMPOSE, read_compose
from tests.deploy.deployment import Deployment, Need
from tests.deploy.helm_chart import Object, each_pod, pod_of, read_chart, render, workloads
from tests.deploy.operating import deliver, roll, until_settled
from tests.deploy.running import RunningDeployment, running, without
from tests.deploy.site import Site, link_programs, programs_of_servers, require_namespaces

SERVERS = ("secrets", "etcd", "postgres", "redis", "s3", "simulator")
"""Of Compose: they stand in for those that a cluster has. The first makes what the operator does."""
SETTINGS = ("driver=simulated", "settings.MESH_SIMNET_ADDRESS=simulator:7650", "existingSecret=mesh-secrets")

pytestmark = [pytest.mark.timed, pytest.mark.long]


@pytest.fixture(scope="module")
def deployed(folder: Path, prefix: Path) -> Iterator[RunningDeployment]:
    """A running deployment of the chart for 100 accounts, with the simulated network."""
    require_namespaces("what the chart starts")
    (folder / "logs").mkdir()
    site = Site(folder, link_programs(folder / "bin", programs_of_servers()), {"sessionmesh": prefix})
    with running(_cluster(), site, folder / "logs") as deployed:
        asyncio.run(until_settled(deployed))
        yield deployed


async def test_a_message_is_delivered(deployed: RunningDeployment) -> None:
    await deliver(deployed)


def test_each_probe_is_answered(deployed: RunningDeployment) -> None:
    for pod in deployed.parts():
        if pod == "simulator":
            continue
        container = _containers()[pod.rpartition("-")[0]]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            with urlopen(
                f"http://{deployed.site.address(pod)}:{ports[asked['port']]}{asked['path']}"
            ) as page:
                assert page.read().strip() == b"ok", (pod, probe)


@pytest.mark.parametrize("names", [["router-0", "session-node-1", "session-node-0"]])
async def test_no_call_fails_while_pods_are_replaced(
    deployed: RunningDeployment, names: list[str], record_property: Callable[[str, object], None]
) -> None:
    await roll(deployed, names, record_property)


def _containers() -> dict[str, Object]:
    """What the chart says of each part's container."""
    found = [pod_of(workload)["containers"][0] for workload in workloads(render("100", *SETTINGS))]
    return {container["name"]: container for container in found}


def _cluster() -> Deployment:
    """The pods of the chart beside their servers, which are there before them."""
    compose = read_compose(
        COMPOSE, profiles=("trial",), SESSIONMESH_IMAGE="sessionmesh:test", SESSIONMESH_DRIVER="simulated"
    )
    servers = without(compose, [name for name in compose.services if name not in SERVERS])
    there = {
        name: Need.COMPLETED if service.ends else Need.HEALTHY for name, service in servers.services.items()
    }
    pods = {
        name: replace(pod, needs={**pod.needs, **there})
        for name, pod in each_pod(read_chart(render("100", *SETTINGS))).services.items()
    }
    return replace(servers, services={**servers.services, **pods})
