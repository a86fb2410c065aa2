"""Stock gRPC clients over the xDS transport, in processes of their own, against a real router."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from mesh_cli.commands.xds_bootstrap import bootstrap
from mesh_core.errors import NotOwner
from mesh_core.settings import ServerSettings
from sessionmesh.v1 import session_pb2, session_pb2_grpc
from tests.support.authority import Authority
from tests.support.eventually import eventually
from tests.support.relay import Relay, relay_to
from tests.support.router_process import process_world
from tests.support.router_world import ADMIN_KEY, Node, RouterWorld, new_account, router_world
from tests.support.xds_caller import Report, XdsCaller

pytestmark = pytest.mark.slow


class Sessions(session_pb2_grpc.SessionServiceServicer):
    """Answers with its name, and whether the call came from the client itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gone: set[str] = set()
        """Accounts that it does not own any more, and does not forward calls for."""

    async def GetSession(
        self, request: session_pb2.GetSessionRequest, context: Any
    ) -> session_pb2.GetSessionResponse:
        if request.account_id in self.gone:
            raise NotOwner
        metadata = dict(context.invocation_metadata())
        # The router's channels are those of grpc.aio, or it gathers the calls and has no name for each.
        direct = str(metadata.get("user-agent", "")).startswith("grpc-python/")
        way = f"direct {metadata.get('x-google-rls-data')}" if direct else "forwarded"
        return session_pb2.GetSessionResponse(session=session_pb2.Session(node_id=self.name, detail=way))


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[RouterWorld]:
    async with router_world(postgres_url, etcd, cluster) as running:
        yield running


async def node(world: RouterWorld, sessions: Sessions, relay: Relay | None = None) -> Node:
    add = session_pb2_grpc.add_SessionServiceServicer_to_server
    return await world.node(sessions.name, {add: sessions}, relay=relay)


def caller(world: RouterWorld, folder: Path, *accounts: str, routers: tuple[str, ...] = ()) -> XdsCaller:
    return XdsCaller(bootstrap([*(routers or (world.address,))], {}), folder, accounts, key=ADMIN_KEY)


async def reported(calling: XdsCaller, condition: Callable[[Report], bool], what: str) -> list[Report]:
    """All reports until one that `condition` holds for."""
    reports = []

    async def look() -> bool:
        reports.append(await calling.report())
        return condition(reports[-1])

    try:
        await eventually(look, 30, what)
    except AssertionError:
        raise AssertionError(f"{what}: {reports[:3]} ... {reports[-3:]}") from None
    return reports


def lookups_without_owner() -> float:
    return REGISTRY.get_sample_value("mesh_xds_lookups_total", {"answer": "router"}) or 0.0


def only(*answers: str) -> Callable[[Report], bool]:
    return lambda report: bool(report.answers) and set(report.answers) <= set(answers)


async def test_calls_go_straight_to_the_owner_with_its_epoch(world: RouterWorld, tmp_path: Path) -> None:
    account = new_account()
    owner = await node(world, Sessions("node-a"))
    await owner.own(account, epoch=7)
    async with caller(world, tmp_path, account) as calling:
        reports = await reported(calling, only("node-a direct epoch=7"), "direct calls alone")
    assert not any(report.failures for report in reports)


async def test_the_death_of_an_owner_costs_no_call(world: RouterWorld, tmp_path: Path) -> None:
    account = new_account()
    relay = await world.stack.enter_async_context(relay_to(""))
    owner = await node(world, Sessions("node-a"), relay)
    other = await node(world, Sessions("node-b"))
    await owner.own(account)
    async with caller(world, tmp_path, account) as calling:
        reports = await reported(calling, only("node-a direct epoch=1"), "direct calls")
        await relay.cut()
        await owner.unregister()
        await other.own(account, epoch=2)
        reports += await reported(
            calling, lambda report: "node-b forwarded" in report.answers, "calls to the new owner"
        )
    assert [report.failures for report in reports if report.failures] == []


async def test_a_call_refused_by_the_former_owner_is_sent_again_to_the_router(
    world: RouterWorld, tmp_path: Path
) -> None:
    account, sessions = new_account(), Sessions("node-a")
    former, owner = await node(world, sessions), await node(world, Sessions("node-b"))
    await former.own(account)
    async with caller(world, tmp_path, account) as calling:
        reports = await reported(calling, only("node-a direct epoch=1"), "direct calls")
        await owner.own(account, epoch=2)
        sessions.gone.add(account)
        reports += await reported(calling, only("node-b forwarded"), "calls to the new owner")
    assert [report.failures for report in reports if report.failures] == []


async def test_an_account_whose_owner_comes_later_is_waited_for(world: RouterWorld, tmp_path: Path) -> None:
    account = new_account()
    owner = await node(world, Sessions("node-a"))
    before = lookups_without_owner()
    async with caller(world, tmp_path, account) as calling:
        await eventually(lambda: lookups_without_owner() > before, what="a call without owner")
        await owner.own(account)
        reports = await reported(calling, lambda report: "node-a forwarded" in report.answers, "an answer")
    assert [report.failures for report in reports if report.failures] == []


async def test_calls_go_on_when_the_routers_die_one_after_the_other(
    postgres_url: str, etcd: str, cluster: str, tmp_path: Path
) -> None:
    account = new_account()
    async with process_world(postgres_url, etcd, cluster, tmp_path) as world:
        routers = [await world.start() for _ in range(2)]
        addresses = tuple([await router.serving() for router in routers])
        owner = await node(world, Sessions("node-a"))
        await owner.own(account)
        direct = only("node-a direct epoch=1")
        async with caller(world, tmp_path, account, routers=addresses) as calling:
            reports = await reported(calling, direct, "direct calls")
            routers[0].signal(signal.SIGKILL)
            await routers[0].ended()
            reports += await reported(calling, direct, "direct calls without the first router")
            async with caller(world, tmp_path, account, routers=addresses) as fresh:
                reports += await reported(fresh, direct, "direct calls of a client that starts now")
            routers[1].signal(signal.SIGKILL)
            await routers[1].ended()
            reports += await reported(calling, direct, "direct calls without any router")
    assert [report.failures for report in reports if report.failures] == []


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
async def test_calls_go_straight_to_the_owner_over_tls(
    postgres_url: str, etcd: str, cluster: str, tmp_path: Path, mutual: bool
) -> None:
    authority, account = Authority(tmp_path, "mesh-ca"), new_account()
    certificate, key = authority.issue("mesh")
    settings = ServerSettings(
        tls_certificate=str(certificate),
        tls_key=str(key),
        tls_client_ca=str(authority.ca) if mutual else "",
    )
    files = {"ca_certificate_file": str(authority.ca)}
    if mutual:
        own = authority.issue("client")
        files |= {"certificate_file": str(own[0]), "private_key_file": str(own[1])}
    async with router_world(postgres_url, etcd, cluster, settings) as world:
        owner = await node(world, Sessions("node-a"))
        await owner.own(account)
        document = bootstrap([world.address], files)
        async with XdsCaller(document, tmp_path, [account], key=ADMIN_KEY, tls=True) as calling:
            reports = await reported(calling, only("node-a direct epoch=1"), "direct calls")
    assert [report.failures for report in reports if report.failures] == []
