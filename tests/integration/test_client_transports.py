"""Which way the Python client's calls go, and what happens when a router is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesh_client import FailedPrecondition, Unavailable, connect
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
    webhook_pb2,
    webhook_pb2_grpc,
)
from tests.support.eventually import eventually
from tests.support.fake_router import FakeRouter, break_off, fake_router

REQUEST = account_pb2.GetAccountRequest(account_id="acc_1")


class Accounts(account_pb2_grpc.AccountServiceServicer):
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def GetAccount(self, request: Any, context: Any) -> Any:
        self.calls += 1
        self.waiting.set()
        await self.go_on.wait()
        return account_pb2.GetAccountResponse(account=account_pb2.Account(id=request.account_id))


class Endpoints(webhook_pb2_grpc.WebhookServiceServicer):
    """Counts calls, and answers none."""

    def __init__(self) -> None:
        self.calls = 0

    async def TestEndpoint(self, request: Any, context: Any) -> Any:
        self.calls += 1
        await break_off(context)

    async def DeleteEndpoint(self, request: Any, context: Any) -> Any:
        self.calls += 1
        await break_off(context)


class TwoRouters:
    def __init__(self, routers: list[FakeRouter], accounts: list[Accounts]) -> None:
        self.routers = routers
        self.accounts = accounts

    @property
    def target(self) -> list[str]:
        return [router.address for router in self.routers]

    @property
    def calls(self) -> int:
        return sum(served.calls for served in self.accounts)


@pytest.fixture
async def two() -> AsyncIterator[TwoRouters]:
    accounts = [Accounts(), Accounts()]
    async with AsyncExitStack() as stack:
        routers = [
            await stack.enter_async_context(
                fake_router({account_pb2_grpc.add_AccountServiceServicer_to_server: served})
            )
            for served in accounts
        ]
        yield TwoRouters(routers, accounts)


async def test_the_routers_of_a_list_take_turns(two: TwoRouters) -> None:
    async with connect(two.target, "key") as client:

        async def both_were_called() -> bool:
            await client.get_account("acc_1")
            return all(served.calls for served in two.accounts)

        await eventually(both_were_called)
        before = [served.calls for served in two.accounts]
        for _ in range(10):
            await client.get_account("acc_1")
        assert [served.calls - calls for served, calls in zip(two.accounts, before, strict=True)] == [5, 5]


@pytest.mark.parametrize("form", ["sequence", "text"])
async def test_a_dead_router_of_a_list_is_not_noticed(two: TwoRouters, form: str) -> None:
    await two.routers[0].kill()
    target = two.target if form == "sequence" else ", ".join(two.target)
    async with connect(target, "key") as client:
        for _ in range(20):
            assert (await client.get_account("acc_1")).id == "acc_1"
    assert two.calls == 20


async def test_calls_in_flight_on_a_router_that_dies_go_to_the_other_one_once(two: TwoRouters) -> None:
    dying, living = two.accounts
    dying.go_on.clear()
    async with connect(two.target, "key") as client:
        calls = [asyncio.create_task(client.get_account("acc_1")) for _ in range(200)]
        async with asyncio.timeout(10):
            await dying.waiting.wait()
        await eventually(lambda: two.calls == 200)
        on_the_dying = dying.calls
        await two.routers[0].kill()
        assert len(await asyncio.gather(*calls)) == 200
    assert living.calls == 200
    assert two.calls == 200 + on_the_dying


async def test_a_router_that_comes_back_is_used_again(two: TwoRouters) -> None:
    await two.routers[0].kill()
    async with connect(two.target, "key") as client:
        await client.get_account("acc_1")
        await two.routers[0].start()

        async def first_was_called() -> bool:
            await client.get_account("acc_1")
            return bool(two.accounts[0].calls)

        await eventually(first_was_called)


@pytest.mark.parametrize(
    ("method", "request_", "repeats"),
    [
        ("TestEndpoint", webhook_pb2.TestEndpointRequest(), False),
        ("DeleteEndpoint", webhook_pb2.DeleteEndpointRequest(), True),
    ],
)
async def test_only_what_the_api_says_may_be_sent_twice_is_repeated_once_it_was_sent(
    method: str, request_: Any, repeats: bool
) -> None:
    endpoints = Endpoints()
    add = webhook_pb2_grpc.add_WebhookServiceServicer_to_server
    async with fake_router({add: endpoints}) as router, connect(router.address, "key") as client:
        with pytest.raises(Unavailable):
            await getattr(client.webhooks, method)(request_, timeout=1)
    assert (endpoints.calls > 1) == repeats


async def test_a_name_with_several_addresses_loses_one_without_notice() -> None:
    # The name localhost has two addresses, one server listens on each.
    accounts = [Accounts(), Accounts()]
    add = account_pb2_grpc.add_AccountServiceServicer_to_server
    async with fake_router({add: accounts[0]}) as first:
        port = first.address.rpartition(":")[2]
        async with (
            fake_router({add: accounts[1]}, f"[::1]:{port}") as second,
            connect(f"dns:///localhost:{port}", "key") as client,
        ):

            async def both_were_called() -> bool:
                await client.get_account("acc_1")
                return all(served.calls for served in accounts)

            await eventually(both_were_called)
            await second.kill()
            for _ in range(20):
                await client.get_account("acc_1")
            await second.start()
            await first.set_healthy(False)  # it drains

            async def only_second() -> bool:
                before = accounts[0].calls
                for _ in range(4):
                    await client.get_account("acc_1")
                return accounts[0].calls == before

            await eventually(only_second)


async def test_a_mesh_without_xds_is_called_plainly(two: TwoRouters) -> None:
    async with connect(two.target, "key") as client:
        assert await client.settle() == "plain"
        await client.get_account("acc_1")
        assert client.transport == "plain"


async def test_insisting_on_xds_where_there_is_none_fails_with_the_way_out(two: TwoRouters) -> None:
    async with connect(two.target, "key", transport="xds") as client:
        with pytest.raises(FailedPrecondition, match="transport='plain'"):
            await client.get_account("acc_1")


async def test_a_closed_client_says_so(two: TwoRouters) -> None:
    client = connect(two.target, "key")
    await client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        await client.get_account("acc_1")


async def test_calls_of_operators_without_an_account_work_too(two: TwoRouters) -> None:
    class Tenants(tenant_pb2_grpc.TenantServiceServicer):
        async def ListTenants(self, request: Any, context: Any) -> Any:
            return tenant_pb2.ListTenantsResponse(tenants=[tenant_pb2.Tenant(id="tnt_1")])

    async with (
        fake_router({tenant_pb2_grpc.add_TenantServiceServicer_to_server: Tenants()}) as router,
        connect(router.address, "key") as client,
    ):
        assert (await client.tenants.ListTenants(tenant_pb2.ListTenantsRequest())).tenants[0].id == "tnt_1"
