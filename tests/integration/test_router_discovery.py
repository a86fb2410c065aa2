"""Stock gRPC clients that know several routers, by a list or by DNS, while one of them goes away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from mesh_cli.embedded import free_port
from sessionmesh.v1 import message_pb2, message_pb2_grpc
from tests.support.eventually import eventually
from tests.support.name_server import name_server
from tests.support.router_process import RouterProcess, process_world
from tests.support.router_world import ADMIN, message_to_get, new_account

pytestmark = pytest.mark.slow

HOSTS = ("127.0.0.1", "127.0.0.2")
CALLERS = 16
CALLS_BEFORE, CALLS_AFTER = 200, 1_000
IN_TURN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
IN_TURN_WHILE_HEALTHY = (
    '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}'
)


class Messages(message_pb2_grpc.MessageServiceServicer):
    """Takes a moment for each call, so that some are always under way."""

    async def GetMessage(self, _request: Any, _context: Any) -> Any:
        await asyncio.sleep(0.005)
        return message_pb2.GetMessageResponse()


@dataclass
class Front:
    """Two routers on one port of two addresses, and an account that is served."""

    routers: list[RouterProcess]
    port: int
    account: str


@pytest.fixture
async def front(postgres_url: str, etcd: str, cluster: str, tmp_path: Path) -> AsyncIterator[Front]:
    async with process_world(postgres_url, etcd, cluster, tmp_path) as world:
        account, port = new_account(), free_port()
        node = await world.node("n1", {message_pb2_grpc.add_MessageServiceServicer_to_server: Messages()})
        await node.own(account)
        routers = [await world.start(MESH_SERVER_LISTEN=f"{host}:{port}") for host in HOSTS]
        yield Front(routers, port, account)


@pytest.fixture(params=["a list", "DNS"])
async def target(request: pytest.FixtureRequest, front: Front) -> AsyncIterator[str]:
    """What leads to both routers."""
    if request.param == "a list":
        yield "ipv4:" + ",".join(f"{host}:{front.port}" for host in HOSTS)
    else:
        async with name_server(*HOSTS) as (_, address):
            yield f"dns://{address}/routers.test:{front.port}"


class Callers:
    """Keep calling, each with one retry, and count what failed."""

    def __init__(self, channel: grpc.aio.Channel, account: str) -> None:
        self.done = 0
        self.retried: list[StatusCode] = []
        self._stub = message_pb2_grpc.MessageServiceStub(channel)
        self._request = message_to_get(account)
        self._enough = False

    async def run(self) -> None:
        """Until `end`; raises when a retry fails."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(self._call())

    def end(self) -> None:
        self._enough = True

    async def more(self, calls: int) -> None:
        """Wait until so many more were served."""
        until = self.done + calls
        await eventually(lambda: self.done >= until, what=f"{calls} more calls")

    async def _call(self) -> None:
        while not self._enough:
            try:
                await self._once()
            except grpc.aio.AioRpcError as error:
                self.retried.append(error.code())
                await self._once()
            self.done += 1

    async def _once(self) -> None:
        await self._stub.GetMessage(self._request, metadata=ADMIN, timeout=20)


async def calling_while_one_goes(
    front: Front, target: str, service_config: str, how: signal.Signals
) -> list[StatusCode]:
    """What the callers' first attempts failed with, while a router got a signal and ended."""
    options = [("grpc.service_config", service_config), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        callers = Callers(channel, front.account)
        running = asyncio.create_task(callers.run())
        await callers.more(CALLS_BEFORE)
        front.routers[1].signal(how)
        assert await front.routers[1].ended() == (0 if how is signal.SIGTERM else -how)
        await callers.more(CALLS_AFTER)
        callers.end()
        await running
    return callers.retried


async def test_a_killed_router_costs_one_retry_at_most(front: Front, target: str) -> None:
    failed = await calling_while_one_goes(front, target, IN_TURN, signal.SIGKILL)
    assert len(failed) <= CALLERS
    assert set(failed) <= {StatusCode.UNAVAILABLE}


async def test_a_router_that_drains_costs_nothing_when_clients_look_at_its_health(
    front: Front, target: str
) -> None:
    assert await calling_while_one_goes(front, target, IN_TURN_WHILE_HEALTHY, signal.SIGTERM) == []


async def test_a_router_that_drains_costs_one_retry_at_most_otherwise(front: Front, target: str) -> None:
    failed = await calling_while_one_goes(front, target, IN_TURN, signal.SIGTERM)
    assert len(failed) <= CALLERS
    assert set(failed) <= {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
