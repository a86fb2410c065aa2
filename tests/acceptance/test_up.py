"""`mesh up`: what it says and refuses, that its data stay, how it ends, and that it keeps parts running."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import account_pb2, media_pb2, webhook_pb2
from tests.support.eventually import eventually, wait_until
from tests.support.mesh_api import Caller, Tenant, open_caller, text_message
from tests.support.mesh_process import MeshProcess, run_mesh

EXIT_UNAVAILABLE = 69


@pytest.fixture
def own_mesh(tmp_state: Path, external_servers: dict[str, str]) -> Iterator[MeshProcess]:
    """A mesh of this test's own, of one node; not started."""
    own = MeshProcess(tmp_state / "state", nodes=1, environment=external_servers)
    yield own
    own.ensure_gone()


def test_it_prints_where_everything_is_and_the_key(mesh: MeshProcess) -> None:
    wait_until(lambda: "Ctrl-C drains" in mesh.output, what="the end of what it prints")
    output = mesh.output
    assert "The mesh is ready" in output
    for part in mesh.file.parts.values():
        assert part.address in output
    assert mesh.file.admin_key in output


def test_mesh_json_names_every_part_and_only_its_owner_can_read_it(mesh: MeshProcess) -> None:
    place = mesh.state / "mesh.json"
    assert {"simulator", "router", "node-1", "node-2", "node-3", "media", "webhook"} == set(mesh.file.parts)
    assert place.stat().st_mode & 0o077 == 0


async def test_a_second_start_goes_on_with_the_accounts_of_the_first(own_mesh: MeshProcess) -> None:
    first = own_mesh.start()
    async with open_caller(first.address, first.admin_key) as admin:
        _, customer = await admin.new_tenant()
        account = await customer.new_account()
        await customer.pair(account, admin)
        key = customer.metadata
    ended = own_mesh.stop()
    assert ended.code == 0, own_mesh.report()
    assert ended.left == []

    second = own_mesh.start()
    assert second.admin_key == first.admin_key
    async with open_caller(second.address, second.admin_key) as admin:
        customer = Caller(admin.channel, key)
        await customer.until_online(account.id)
        message = await customer.send(text_message(account.id))
        await customer.until_delivered(account.id, message.id)
    assert own_mesh.stop().code == 0, own_mesh.report()


def test_a_port_in_use_is_refused_before_anything_starts(mesh: MeshProcess, tmp_state: Path) -> None:
    ended = run_mesh("up", "--state", str(tmp_state), "--port", str(mesh.port))
    assert ended.returncode == EXIT_UNAVAILABLE
    assert f"port {mesh.port} on 127.0.0.1 is in use" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_state.glob("*/server.log"))


@pytest.mark.parametrize("place", ["before the command", "after the command"])
def test_a_second_mesh_on_a_state_directory_is_told_who_has_it(mesh: MeshProcess, place: str) -> None:
    state = ("--state", str(mesh.state))
    command = (*state, "up") if place == "before the command" else ("up", *state)
    ended = run_mesh(*command, "--port", str(mesh.port))
    assert ended.returncode == EXIT_UNAVAILABLE
    holder = mesh.file.supervisor_pid
    assert f"{mesh.state} is in use by another running mesh: process {holder}, since 20" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_the_first_mesh_is_unharmed_by_the_second(
    mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    logs = {log.name for log in (mesh.state / "logs").iterdir()}
    before = mesh.file
    assert run_mesh("up", "--state", str(mesh.state), "--port", "0").returncode == EXIT_UNAVAILABLE
    assert mesh.file == before
    assert {log.name for log in (mesh.state / "logs").iterdir()} == logs
    message = await tenant.caller.send(text_message(account.id))
    await tenant.caller.until_delivered(account.id, message.id)


@pytest.mark.parametrize("step", ["backing servers", "session-nodes, media, webhook"])
def test_ctrl_c_while_it_starts_leaves_nothing_behind(own_mesh: MeshProcess, step: str) -> None:
    own_mesh.launch()
    own_mesh.until_step(step)
    family = own_mesh.family()
    ended = own_mesh.stop()
    assert [one for one in family + ended.left if one.is_running()] == []
    assert "Traceback" not in own_mesh.output
    assert not (own_mesh.state / "mesh.json").exists()


@pytest.mark.usefixtures("fleet_at_rest")
async def test_a_part_that_was_killed_is_started_again_and_works(
    mesh: MeshProcess, admin: Caller, tenant: Tenant, account: account_pb2.Account
) -> None:
    for name in ("router", "media", "webhook", "node-1"):
        await _kill_and_await(mesh, name)

    async def node_is_back() -> bool:
        nodes = (await admin(admin.fleet.ListNodes, fleet_pb2.ListNodesRequest())).nodes
        return {"node-1", "node-2", "node-3"} == {
            node.id for node in nodes if node.state == fleet_pb2.NODE_STATE_ACTIVE
        }

    await eventually(node_is_back, what="node-1 in the fleet")
    caller = tenant.caller
    assert (await caller(caller.media.ListMedia, media_pb2.ListMediaRequest())).media == []
    endpoints = await caller(caller.webhooks.ListEndpoints, webhook_pb2.ListEndpointsRequest())
    assert endpoints.endpoints == []
    message = await caller.send(text_message(account.id))
    await caller.until_delivered(account.id, message.id)


@pytest.mark.usefixtures("fleet_at_rest")
async def test_a_watchdog_that_was_killed_takes_its_node_along_and_both_are_started_again(
    mesh: MeshProcess,
) -> None:
    node = mesh.file.parts["node-2"]
    watchdog = mesh.kill_watchdog("node-2")
    assert watchdog == node.watchdog_pid != node.pid

    async def replaced() -> bool:
        now = mesh.file.parts["node-2"]
        return now.watchdog_pid != watchdog and now.pid != node.pid

    await eventually(replaced, what="another watchdog and another node")
    await eventually(lambda: not psutil.pid_exists(node.pid), what="the end of the node before")
    now = mesh.file.parts["node-2"]
    assert psutil.Process(now.pid).ppid() == now.watchdog_pid
    await _until_serving(now.address)


async def test_mesh_json_says_what_is_true(mesh: MeshProcess) -> None:
    found = json.loads((mesh.state / "mesh.json").read_text())
    assert found["address"] == mesh.address
    for part in found["parts"].values():
        assert psutil.pid_exists(part["pid"])
        await _until_serving(part["address"])


async def _kill_and_await(mesh: MeshProcess, name: str) -> None:
    killed = mesh.kill_part(name)

    async def replaced() -> bool:
        return mesh.file.parts[name].pid != killed

    await eventually(replaced, what=f"another process for {name}")
    await _until_serving(mesh.file.parts[name].address)


async def _until_serving(address: str) -> None:
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_reconnect_backoff_ms", 100)]
    ) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60)
        async for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return
    raise AssertionError(f"{address} ended the watch of its health")
