"""What an operator does with a deployment that runs."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mesh_client import connect
from sessionmesh.admin.v1 import fleet_pb2
from tests.deploy.load import Load
from tests.deploy.running import RunningDeployment
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, open_caller, text_message

ACCOUNTS = 10
NODES = 2


@asynccontextmanager
async def admin(deployed: RunningDeployment) -> AsyncIterator[Caller]:
    """The administrator, at the last router."""
    config = deployed.site.volume("mesh-secrets") / "mesh.toml"
    key = tomllib.loads(config.read_text())["auth"]["bootstrap_key"]
    async with open_caller(_routers(deployed)[-1], key) as caller:
        yield caller


async def until_settled(deployed: RunningDeployment) -> None:
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


async def roll(
    deployed: RunningDeployment, names: list[str], record_property: Callable[[str, object], None]
) -> None:
    """Replace the parts under load: no call fails, and each message that was accepted is delivered."""
    async with admin(deployed) as operator:
        _, tenant = await operator.new_tenant()
        accounts = [await tenant.new_account() for _ in range(ACCOUNTS)]
        for account in accounts:
            await tenant.pair(account, operator)
        async with connect(_routers(deployed), tenant.key, transport="plain") as client:
            load = Load(client, [account.id for account in accounts])
            async with load.running():
                for name in names:
                    assert await asyncio.to_thread(deployed.roll, name) == 0, name
                    await load.until_more(1)
        record_property("rolling_failed_calls", len(load.failed))
        assert load.failed == []
        for account_id, message in load.messages[-ACCOUNTS:]:
            await tenant.until_delivered(account_id, message, 60)


def _routers(deployed: RunningDeployment) -> list[str]:
    names = sorted(name for name in deployed.parts() if name.startswith("router"))
    return [f"{deployed.site.address(name)}:7600" for name in names]


async def deliver(deployed: RunningDeployment) -> None:
    """A message is sent and delivered, and a file is stored."""
    async with admin(deployed) as operator:
        _, tenant = await operator.new_tenant()
        account = await tenant.new_account()
        await tenant.pair(account, operator)
        message = await tenant.send(text_message(account.id))
        await tenant.until_delivered(account.id, message.id)
        media = await tenant.upload(b"%PDF-1.7\n%%EOF\n", "offer.pdf")
        assert media.size_bytes > 0
