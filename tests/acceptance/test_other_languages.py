"""Stock gRPC clients of other languages: generated stubs, an address or a bootstrap file, and a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, event_pb2
from tests.acceptance.client_programs import BUILDERS, WorkingProgram, at_work
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess, clean_environment, run_mesh_here

XDS_TARGETS = {
    "go": "xds:///sessionmesh",
    "java": "xds:///sessionmesh",
    "node": "xds:///sessionmesh-plain",  # gRPC for Node knows no route lookup
}
GOES_TO_THE_OWNER = ("go", "java")
LONG = {"java": (pytest.mark.timed, pytest.mark.long)}
"""Building the one program takes minutes."""
OTHER_PERSON = "phone:+4915112345678"
"""Whom the programs write to first."""
RESTART_SECONDS = 60.0
CALLS_AFTERWARDS = 10


@pytest.fixture
async def account(tenant: Tenant) -> account_pb2.Account:
    """An account of `tenant`, which the program is to pair."""
    return await tenant.caller.new_account()


@pytest.fixture
def environment(mesh: MeshProcess, tmp_path: Path) -> dict[str, str]:
    """What a program over the xDS transport has in its environment."""
    printed = run_mesh_here("xds-bootstrap", MESH_STATE=str(mesh.state))
    assert printed.exit_code == 0, printed.stderr
    bootstrap = tmp_path / "bootstrap.json"
    bootstrap.write_text(printed.stdout)
    return {**clean_environment(), "GRPC_XDS_BOOTSTRAP": str(bootstrap)}


@pytest.mark.parametrize("language", [pytest.param(name, marks=LONG.get(name, ())) for name in BUILDERS])
async def test_a_program_works_over_the_plain_transport(
    language: str,
    tenant: Tenant,
    account: account_pb2.Account,
    admin: Caller,
    mesh: MeshProcess,
    tmp_path: Path,
) -> None:
    """It pairs, converses, reads errors, meets an event of an unknown kind, and watches a stream."""
    command = [*BUILDERS[language](), mesh.address, tenant.caller.key, account.id]
    async with at_work(command, clean_environment(), tmp_path) as working:
        await see_it_begin(working, account, tenant.caller, admin)
        assert await working.next("done") == mesh.address


@pytest.mark.parametrize("language", [pytest.param(name, marks=LONG.get(name, ())) for name in XDS_TARGETS])
async def test_a_program_works_over_the_xds_transport(
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
    command = [*BUILDERS[language](), XDS_TARGETS[language], tenant.caller.key, account.id]
    async with at_work(command, environment, tmp_path) as working:
        await see_it_begin(working, account, tenant.caller, admin)
        expected = owner if language in GOES_TO_THE_OWNER else mesh.address
        assert await working.next("done") == expected


@pytest.mark.usefixtures("fleet_at_rest")
@pytest.mark.parametrize("language", [pytest.param(name, marks=LONG.get(name, ())) for name in XDS_TARGETS])
async def test_no_call_over_the_xds_transport_fails_when_the_owner_is_killed(
    language: str,
    tenant: Tenant,
    account: account_pb2.Account,
    admin: Caller,
    mesh: MeshProcess,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    command = [*BUILDERS[language](), XDS_TARGETS[language], tenant.caller.key, account.id]
    async with at_work(command, environment, tmp_path) as working:
        await see_it_begin(working, account, tenant.caller, admin)
        await working.next("done")
        owner = await placement(account, admin)
        killed = mesh.kill_part(owner.node_id)
        while (await placement(account, admin)).incarnation in (owner.incarnation, ""):
            await working.next("done")
        for _ in range(CALLS_AFTERWARDS):
            await working.next("done")
        await eventually(lambda: mesh.file.parts[owner.node_id].pid != killed, RESTART_SECONDS, "its restart")


async def see_it_begin(
    working: WorkingProgram, account: account_pb2.Account, caller: Caller, admin: Caller
) -> None:
    """All that a program does once, with somebody who scans its code and writes to it."""
    scan = simulator_pb2.AcceptPairingRequest(qr=await working.next("scan"), phone=account.phone)
    await admin(admin.simulator.AcceptPairing, scan)
    assert await working.next("paired") == f"phone:{account.phone}"

    message_id, recipient = (await working.next("sent")).split()
    assert recipient == OTHER_PERSON
    text = simulator_pb2.InjectMessageRequest(phone=account.phone, sender=OTHER_PERSON, text="Hello yourself")
    network_id = (await admin(admin.simulator.InjectMessage, text)).network_message_id
    listed = event_pb2.ListEventsRequest(account_ids=[account.id], cursor=await working.next("delivered"))
    events = (await caller(caller.events.ListEvents, listed)).events
    assert message_id not in [event.message_status.message_id for event in events], "it has read up to there"
    assert await working.next("received") == OTHER_PERSON
    reply = await caller.message(account.id, await working.next("replied"))
    assert reply.chat == OTHER_PERSON
    answered = await caller.message(account.id, reply.options.reply_to.message_id)
    assert answered.network_message_id == network_id

    assert await working.next("refused") == "5 RESOURCE_NOT_FOUND"
    assert await working.next("refused") == "3 INVALID_FIELD message.message_id"
    assert await working.next("future") == "other"
    assert await working.next("session") == "SESSION_STATE_CONNECTED"


async def placement(account: account_pb2.Account, admin: Caller) -> fleet_pb2.ShardPlacement:
    """Who owns the account."""
    request = fleet_pb2.GetPlacementRequest(account_id=account.id)
    (shard,) = (await admin(admin.fleet.GetPlacement, request)).shards
    found: fleet_pb2.ShardPlacement = shard
    return found
