"""`mesh fleet` on the shared mesh, which is left as it was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from typer.testing import Result

from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2
from tests.acceptance.fleet_at_rest import settled
from tests.support.eventually import eventually, wait_until
from tests.support.mesh_api import Caller, Tenant, text_message
from tests.support.mesh_process import MeshProcess, run_mesh_here

EXIT_USAGE = 2


def fleet(mesh: MeshProcess, *arguments: str) -> Result:
    return run_mesh_here("--state", str(mesh.state), "fleet", *arguments)


def shown(mesh: MeshProcess, *arguments: str) -> str:
    """What people see of a command that must succeed."""
    ended = fleet(mesh, *arguments)
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    return ended.stdout


def lines(mesh: MeshProcess, *arguments: str) -> list[dict[str, object]]:
    """What scripts see of it: an object a line."""
    return [json.loads(line) for line in shown(mesh, *arguments, "--json").splitlines()]


@pytest.fixture
async def whole(fleet_at_rest: None, admin: Caller) -> AsyncIterator[None]:
    """Node-1 serves with its share, before the test and after it."""
    yield
    await admin(admin.fleet.UndrainNode, fleet_pb2.UndrainNodeRequest(node_id="node-1"))


@pytest.mark.usefixtures("whole")
async def test_a_drained_node_owns_nothing_until_it_is_undrained(
    mesh: MeshProcess, admin: Caller, account: account_pb2.Account
) -> None:
    jobs = lines(mesh, "drain", "node-1")
    assert jobs[-1]["state"] == "JOB_STATE_SUCCEEDED"
    assert jobs[-1]["done"] == jobs[-1]["total"]
    drained = {node["id"]: node for node in lines(mesh)[0]["nodes"]}["node-1"]  # type: ignore[attr-defined]  # JSON
    assert drained["state"] == "NODE_STATE_DRAINING"
    assert "shards" not in drained, "none is left out of the JSON"
    assert lines(mesh, "where", account.id)[0]["node_id"] != "node-1"
    undrained = lines(mesh, "undrain", "node-1")[0]
    assert undrained["state"] == "NODE_STATE_ACTIVE"
    await eventually(lambda: settled(admin), 60, "node-1's share")


@pytest.mark.usefixtures("whole")
async def test_a_drain_shows_its_progress_to_people(mesh: MeshProcess) -> None:
    output = shown(mesh, "drain", "node-1")
    assert output.splitlines()[-1].startswith("node-1 is drained: ")
    assert "draining" in shown(mesh)


@pytest.mark.usefixtures("whole")
async def test_a_message_sent_during_a_drain_arrives(
    mesh: MeshProcess, account: account_pb2.Account, tenant_caller: Caller
) -> None:
    started = fleet(mesh, "drain", "node-1", "--no-wait")
    assert started.exit_code == 0, started.stderr
    message = await tenant_caller.send(text_message(account.id))
    await tenant_caller.until_delivered(account.id, message.id)


@pytest.fixture
def tenant_caller(request: pytest.FixtureRequest) -> Caller:
    caller: Caller = request.getfixturevalue("tenant").caller
    return caller


def test_the_status_names_every_node_and_the_capacity(mesh: MeshProcess) -> None:
    output = shown(mesh, "status")
    assert shown(mesh).splitlines()[0] == output.splitlines()[0], "the status is what `mesh fleet` shows"
    for words in ("node-1", "node-2", "node-3", "active", "capacity:", "of 15,000 sessions"):
        assert words in output


def test_where_tells_of_a_shard(mesh: MeshProcess) -> None:
    found = lines(mesh, "where", "17")[0]
    assert (found["shard"], found["state"]) == (17, "OWNER_STATE_ACTIVE")
    assert str(found["node_id"]).startswith("node-")
    assert "node-" in shown(mesh, "where", "17")


@pytest.mark.read_back("ConnectAccounts")
async def test_an_account_that_waits_after_failures_is_connected_at_once(
    mesh: MeshProcess, admin: Caller, account: account_pb2.Account, tenant: Tenant
) -> None:
    refuse = simulator_pb2.FAULT_KIND_REFUSE_LOGINS, simulator_pb2.FAULT_KIND_DROP_CONNECTION
    for kind in refuse:
        fault = simulator_pb2.InjectFaultRequest(kind=kind, phone=account.phone)
        await admin(admin.simulator.InjectFault, fault)
    of_tenant = ("connect", "--tenant", tenant.id)

    def waits() -> bool:  # but for the moments in which it tries by itself
        return lines(mesh, *of_tenant, "--dry-run") == [{"accounts": "1"}]

    await eventually(waits, 60, "an account that waits")
    await eventually(lambda: "1 accounts connect now" in shown(mesh, *of_tenant), 60, "one to connect")
    await admin(admin.simulator.ClearFaults, simulator_pb2.ClearFaultsRequest(phone=account.phone))
    shown(mesh, *of_tenant)
    await tenant.caller.until_online(account.id)


def test_capacity(mesh: MeshProcess) -> None:
    assert lines(mesh, "capacity")[0]["max"] == "15000"


@pytest.fixture
def watching(mesh: MeshProcess) -> Iterator[subprocess.Popen[str]]:
    """`mesh fleet watch` in a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh_cli", "--state", str(mesh.state), "fleet", "watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_watch_tells_of_every_node_and_ends_with_ctrl_c(watching: subprocess.Popen[str]) -> None:
    assert watching.stdout is not None
    told = [watching.stdout.readline() for _ in range(3)]
    assert [f"node-{number} active" in line for number, line in enumerate(told, 1)] == [True] * 3
    watching.send_signal(signal.SIGINT)
    wait_until(lambda: watching.poll() is not None, 20, "the end of the watch")
    assert watching.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["drain", "node-9"], 1, "node node-9 does not exist"),
        (["drain", "node-1", "--to", "node-1"], 1, "replacement_node_id"),
        (["undrain", "node-9"], 1, "NOT_FOUND"),
        (["where", "4096"], 1, "between 0 and 4095"),
        (["where", "nonsense"], 1, "account_id"),
        (["connect"], EXIT_USAGE, "--all"),
        (["connect", "--node", "node-9"], 1, "node node-9 does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_order_that_makes_no_sense_is_a_readable_sentence(
    mesh: MeshProcess, arguments: list[str], code: int, words: str
) -> None:
    ended = fleet(mesh, *arguments)
    assert ended.exit_code == code, ended.output
    assert words in ended.stderr
    assert isinstance(ended.exception, SystemExit), ended.exception
