"""ConnectAccounts: the router asks every node, and adds up what they answer."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode

from mesh_core.ids import Prefix, new_id
from mesh_router.fleet import connects
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc
from tests.support.eventually import eventually
from tests.support.fleet_calls import node
from tests.support.router_world import ADMIN, RouterWorld, account_maker, failing, tenant_key

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Waiting(node_pb2_grpc.NodeServiceServicer):
    """A node with accounts that wait; `asked` is what it was asked."""

    def __init__(self, accounts: int, quarantined: int) -> None:
        self.asked: list[node_pb2.ConnectAccountsRequest] = []
        self._answer = node_pb2.ConnectAccountsResponse(accounts=accounts, quarantined=quarantined)

    async def ConnectAccounts(
        self, request: node_pb2.ConnectAccountsRequest, context: Any
    ) -> node_pb2.ConnectAccountsResponse:
        self.asked.append(request)
        return self._answer


async def waiting(world: RouterWorld, name: str, accounts: int, quarantined: int) -> Waiting:
    servicer = Waiting(accounts, quarantined)
    await world.node(name, {node_pb2_grpc.add_NodeServiceServicer_to_server: servicer})

    async def seen() -> bool:
        nodes = (await world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)).nodes
        return any(one.id == name for one in nodes)

    await eventually(seen)
    return servicer


async def connect(world: RouterWorld, **fields: Any) -> fleet_pb2.ConnectAccountsResponse:
    request = fleet_pb2.ConnectAccountsRequest(**fields)
    answer: fleet_pb2.ConnectAccountsResponse = await world.fleet.ConnectAccounts(request, metadata=ADMIN)
    return answer


async def test_every_node_is_asked_and_their_answers_are_added_up(world: RouterWorld) -> None:
    first, second = await waiting(world, "a", 5, 2), await waiting(world, "b", 3, 0)
    answer = await connect(world, quarantined_only=True, dry_run=True)
    assert answer == fleet_pb2.ConnectAccountsResponse(accounts=8, quarantined=2)
    expected = [node_pb2.ConnectAccountsRequest(quarantined_only=True, dry_run=True)]
    assert (first.asked, second.asked) == (expected, expected)


async def test_only_the_node_that_is_named_is_asked(world: RouterWorld) -> None:
    first, second = await waiting(world, "a", 5, 2), await waiting(world, "b", 3, 0)
    assert (await connect(world, node_id="b")).accounts == 3
    assert (len(first.asked), len(second.asked)) == (0, 1)


async def test_the_nodes_are_asked_about_the_tenant_that_is_named(world: RouterWorld) -> None:
    servicer = await waiting(world, "a", 1, 0)
    tenant = (await (await account_maker(world))("1")).account.tenant_id
    await connect(world, tenant_id=tenant)
    assert servicer.asked == [node_pb2.ConnectAccountsRequest(tenant_id=tenant)]


async def test_a_node_that_does_not_answer_is_named_and_the_others_count(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connects, "TIMEOUT", 0.5)
    await waiting(world, "a", 5, 2)
    await node(world, "gone")
    answer = await connect(world)
    assert (answer.accounts, list(answer.silent_node_ids)) == (5, ["gone"])


@pytest.mark.parametrize("unknown", [{"node_id": "nobody"}, {"tenant_id": new_id(Prefix.TENANT)}])
async def test_what_does_not_exist_is_not_found(world: RouterWorld, unknown: dict[str, str]) -> None:
    assert (await failing(connect(world, **unknown))).code == StatusCode.NOT_FOUND


async def test_it_is_for_operators_only(world: RouterWorld) -> None:
    metadata = [("authorization", f"Bearer {await tenant_key(world)}")]
    call = world.fleet.ConnectAccounts(fleet_pb2.ConnectAccountsRequest(), metadata=metadata)
    assert (await failing(call)).code == StatusCode.PERMISSION_DENIED
