"""The Python client's xDS transport, against a real router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh_cli.commands.xds_bootstrap import bootstrap
from mesh_core.errors import Unavailable
from mesh_core.settings import ServerSettings
from sessionmesh.v1 import session_pb2, session_pb2_grpc
from tests.support.authority import Authority
from tests.support.client_caller import client_caller
from tests.support.eventually import eventually
from tests.support.relay import Relay, relay_to
from tests.support.router_world import ADMIN_KEY, Node, RouterWorld, new_account, router_world

pytestmark = pytest.mark.slow


class Sessions(session_pb2_grpc.SessionServiceServicer):
    """Answers with its name, and whether the client itself has found it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.busy = False

    async def GetSession(self, request: session_pb2.GetSessionRequest, context: Any) -> Any:
        self.calls += 1
        if self.busy:
            raise Unavailable("busy", "BACKEND_UNAVAILABLE")
        return session_pb2.GetSessionResponse(session=self._session(context))

    async def WatchSession(
        self, request: session_pb2.WatchSessionRequest, context: Any
    ) -> AsyncIterator[session_pb2.WatchSessionResponse]:
        yield session_pb2.WatchSessionResponse(session=self._session(context))

    def _session(self, context: Any) -> session_pb2.Session:
        found = dict(context.invocation_metadata()).get("x-google-rls-data")
        return session_pb2.Session(node_id=self.name, detail=f"direct {found}" if found else "forwarded")


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[RouterWorld]:
    async with router_world(postgres_url, etcd, cluster) as running:
        yield running


async def owned_by(
    world: RouterWorld, sessions: Sessions, account: str, epoch: int = 1, relay: Relay | None = None
) -> Node:
    add = session_pb2_grpc.add_SessionServiceServicer_to_server
    node = await world.node(sessions.name, {add: sessions}, relay=relay)
    await node.own(account, epoch)
    return node


@pytest.mark.parametrize("streaming", [False, True])
async def test_calls_about_an_account_go_straight_to_its_owner_from_the_first_on(
    world: RouterWorld, streaming: bool
) -> None:
    account = new_account()
    await owned_by(world, Sessions("node-a"), account, epoch=7)
    async with client_caller() as caller:
        await caller.connect(world.address, ADMIN_KEY)
        outcome = await caller.call(account, account, account, streaming=streaming)
    assert outcome.answers == ["node-a direct epoch=7"] * 3
    assert outcome.transport == "xds"


async def test_the_plain_transport_can_be_chosen(world: RouterWorld) -> None:
    account = new_account()
    await owned_by(world, Sessions("node-a"), account)
    async with client_caller() as caller:
        await caller.connect(world.address, ADMIN_KEY, transport="plain")
        outcome = await caller.call(account)
    assert (outcome.answers, outcome.transport) == (["node-a forwarded"], "plain")


async def test_an_xds_target_uses_the_callers_own_bootstrap(world: RouterWorld, tmp_path: Path) -> None:
    account = new_account()
    await owned_by(world, Sessions("node-a"), account)
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(bootstrap([world.address], {})))
    async with client_caller(GRPC_XDS_BOOTSTRAP=str(file)) as caller:
        await caller.connect("xds:///sessionmesh", ADMIN_KEY)
        assert (await caller.call(account)).answers == ["node-a direct epoch=1"]
        await caller.connect(world.address, ADMIN_KEY)  # its own bootstrap leads there, too
        assert (await caller.call(account)).answers == ["node-a direct epoch=1"]


async def test_a_bootstrap_that_leads_nowhere_is_told(free_port: int) -> None:
    nowhere = json.dumps(bootstrap([f"127.0.0.1:{free_port}"], {}))
    async with client_caller(GRPC_XDS_BOOTSTRAP_CONFIG=nowhere) as caller:
        await caller.connect("xds:///sessionmesh", ADMIN_KEY)
        [refused] = (await caller.call(new_account())).failures
    assert f"nothing listens at 127.0.0.1:{free_port}" in refused


async def test_a_bootstrap_for_another_mesh_is_left_alone(world: RouterWorld, free_port: int) -> None:
    account = new_account()
    await owned_by(world, Sessions("node-a"), account)
    other = json.dumps(bootstrap([f"127.0.0.1:{free_port}"], {}))
    async with client_caller(GRPC_XDS_BOOTSTRAP_CONFIG=other) as caller:
        await caller.connect(world.address, ADMIN_KEY)
        outcome = await caller.call(account)
        assert (outcome.answers, outcome.transport) == (["node-a forwarded"], "plain")
        await caller.connect(world.address, ADMIN_KEY, transport="xds")
        [refused] = (await caller.call(account)).failures
    assert "another mesh's" in refused


async def test_a_second_mesh_in_the_same_process_is_called_plainly(
    world: RouterWorld, postgres_url: str, etcd: str, cluster: str
) -> None:
    account = new_account()
    await owned_by(world, Sessions("node-a"), account)
    async with router_world(postgres_url, etcd, f"{cluster}-2") as second, client_caller() as caller:
        await owned_by(second, Sessions("node-b"), account)
        await caller.connect(world.address, ADMIN_KEY)
        assert (await caller.call(account)).answers == ["node-a direct epoch=1"]
        await caller.connect(second.address, ADMIN_KEY)
        assert (await caller.call(account)).answers == ["node-b forwarded"]
        await caller.connect(world.address, ADMIN_KEY)
        assert (await caller.call(account)).answers == ["node-a direct epoch=1"]


@pytest.mark.parametrize("transport", ["auto", "xds"])
async def test_the_death_of_an_owner_costs_no_call(world: RouterWorld, transport: str) -> None:
    account = new_account()
    async with relay_to("") as relay, client_caller() as caller:
        owner = await owned_by(world, Sessions("node-a"), account, relay=relay)
        await caller.connect(world.address, ADMIN_KEY, transport=transport)
        assert (await caller.call(account)).answers == ["node-a direct epoch=1"]
        await relay.cut()
        await owner.unregister()
        await owned_by(world, Sessions("node-b"), account, epoch=2)
        outcome = await caller.call(*[account] * 10)
    assert not outcome.failures
    assert {answer.partition(" ")[0] for answer in outcome.answers} == {"node-b"}


@pytest.mark.parametrize("transport", ["auto", "xds"])
async def test_the_routes_own_retries_do_not_multiply_with_the_clients(
    world: RouterWorld, transport: str
) -> None:
    account, sessions = new_account(), Sessions("node-a")
    await owned_by(world, sessions, account)
    async with client_caller() as caller:
        await caller.connect(world.address, ADMIN_KEY, transport=transport)
        assert (await caller.call(account)).answers == ["node-a direct epoch=1"]
        sessions.busy, sessions.calls = True, 0
        [refused] = (await caller.call(account)).failures
    assert "busy" in refused
    assert sessions.calls == 1  # the mesh did not say that trying again helps


async def test_a_mesh_that_comes_up_late_gives_the_xds_transport_after_all(world: RouterWorld) -> None:
    account = new_account()
    await owned_by(world, Sessions("node-a"), account)
    async with relay_to(world.address) as relay, client_caller() as caller:
        await relay.cut()
        await caller.connect(relay.url, ADMIN_KEY)
        first = asyncio.create_task(caller.call(account))
        await asyncio.wait([first], timeout=0.5)
        await relay.open()
        assert not (await first).failures

        async def direct() -> bool:
            outcome = await caller.call(account)
            assert not outcome.failures
            return outcome.answers == ["node-a direct epoch=1"]

        await eventually(direct)


async def test_tls_is_spoken_on_the_xds_transport(
    postgres_url: str, etcd: str, cluster: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "mesh-ca")
    certificate, key = authority.issue("mesh")
    mine, my_key = authority.issue("caller")
    settings = ServerSettings(
        tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.ca)
    )
    files = {"ca": str(authority.ca), "certificate": str(mine), "key": str(my_key)}
    account = new_account()
    async with router_world(postgres_url, etcd, cluster, settings) as world, client_caller() as caller:
        await owned_by(world, Sessions("node-a"), account)
        await caller.connect(world.address, ADMIN_KEY, tls=files)
        outcome = await caller.call(account)
    assert (outcome.answers, outcome.failures) == (["node-a direct epoch=1"], [])
