"""Stock gRPC clients of other languages: generated stubs, an address or a bootstrap file, and a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import account_pb2
from tests.acceptance.client_programs import BUILDERS, at_work
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess, clean_environment, run_mesh

XDS_TARGETS = {
    "go": "xds:///sessionmesh",
    "java": "xds:///sessionmesh",
    "node": "xds:///sessionmesh-plain",  # gRPC for Node knows no route lookup
}
GOES_TO_THE_OWNER = ("go", "java")
RESTART_SECONDS = 60.0
CALLS_AFTERWARDS = 10


@pytest.fixture(params=BUILDERS)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(language: str) -> list[str]:
    """The command that runs the language's client program."""
    return BUILDERS[language]()


@pytest.fixture
def environment(mesh: MeshProcess, tmp_path: Path) -> dict[str, str]:
    """What a program over the xDS transport has in its environment."""
    printed = run_mesh("xds-bootstrap", MESH_STATE=str(mesh.state))
    assert printed.returncode == 0, printed.stderr
    bootstrap = tmp_path / "bootstrap.json"
    bootstrap.write_text(printed.stdout)
    return {**clean_environment(), "GRPC_XDS_BOOTSTRAP": str(bootstrap)}


async def test_a_program_works_over_the_plain_transport(
    program: list[str], tenant: Tenant, account: account_pb2.Account, mesh: MeshProcess, tmp_path: Path
) -> None:
    """It sends, reads an error's details, and watches a stream."""
    command = [*program, mesh.address, tenant.caller.key, account.id]
    async with at_work(command, clean_environment(), tmp_path) as working:
        assert (await working.next("sent")).startswith("msg_")
        assert await working.next("refused") == "5 RESOURCE_NOT_FOUND"
        assert await working.next("session") == "SESSION_STATE_CONNECTED"
        assert await working.next("done") == mesh.address


async def test_a_program_works_over_the_xds_transport(
    program: list[str],
    language: str,
    tenant: Tenant,
    account: account_pb2.Account,
    admin: Caller,
    mesh: MeshProcess,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """The same, and the owner itself answers what is the owner's to answer."""
    owner = mesh.file.parts[(await placement(account, admin)).node_id].address
    command = [*program, XDS_TARGETS[language], tenant.caller.key, account.id]
    async with at_work(command, environment, tmp_path) as working:
        assert (await working.next("sent")).startswith("msg_")
        assert await working.next("refused") == "5 RESOURCE_NOT_FOUND"
        assert await working.next("session") == "SESSION_STATE_CONNECTED"
        expected = owner if language in GOES_TO_THE_OWNER else mesh.address
        assert await working.next("done") == expected


async def test_no_call_over_the_xds_transport_fails_when_the_owner_is_killed(
    program: list[str],
    language: str,
    tenant: Tenant,
    account: account_pb2.Account,
    admin: Caller,
    mesh: MeshProcess,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    command = [*program, XDS_TARGETS[language], tenant.caller.key, account.id]
    async with at_work(command, environment, tmp_path) as working:
        for kind in ("sent", "refused", "session", "done"):
            await working.next(kind)
        owner = await placement(account, admin)
        killed = mesh.kill_part(owner.node_id)
        while (await placement(account, admin)).incarnation in (owner.incarnation, ""):
            await working.next("done")
        for _ in range(CALLS_AFTERWARDS):
            await working.next("done")
        await eventually(lambda: mesh.file.parts[owner.node_id].pid != killed, RESTART_SECONDS, "its restart")


async def placement(account: account_pb2.Account, admin: Caller) -> fleet_pb2.ShardPlacement:
    """Who owns the account."""
    request = fleet_pb2.GetPlacementRequest(account_id=account.id)
    (shard,) = (await admin(admin.fleet.GetPlacement, request)).shards
    found: fleet_pb2.ShardPlacement = shard
    return found
