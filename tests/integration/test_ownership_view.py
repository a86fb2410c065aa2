"""What a router sees of owners, and what anybody sees of the other services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from mesh_core.errors import NotOwner
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceDirectory, ServiceInfo, register
from mesh_core.ids import SHARDS
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, OwnerKey, OwnerState, encode
from mesh_core.ownership.planning.table import Table, encode_table
from mesh_core.ownership.view import Owner, OwnerView
from mesh_core.tasks import Supervisor
from tests.support.ownership_nodes import until
from tests.support.relay import Relay
from tests.support.servers import patient_etcd_at

# gRPC's completions of one loop's last calls may arrive after it was closed, and then disturb the next
# loop's.
pytestmark = pytest.mark.asyncio(loop_scope="module")


def key(node: str, state: OwnerState, epoch: int = 0, from_node: str = "") -> bytes:
    return encode(
        OwnerKey(
            incarnation=f"{node}-1",
            node=node,
            address=f"{node}:1",
            state=state,
            epoch=epoch,
            from_node=from_node,
            from_address=f"{from_node}:1" if from_node else "",
        )
    )


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: str) -> AsyncIterator[Etcd]:
    opened = patient_etcd_at(etcd)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def supervisor() -> AsyncIterator[Supervisor]:
    def failed(name: str, error: BaseException) -> None:
        raise AssertionError(name) from error

    async with Supervisor(failed) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def relay(etcd: str) -> AsyncIterator[Relay]:
    opened = Relay(etcd)
    await opened.open()
    yield opened
    await opened.cut()


@pytest_asyncio.fixture(loop_scope="module")
async def view(relay: Relay, cluster: str, supervisor: Supervisor) -> AsyncIterator[OwnerView]:
    etcd = Etcd.at(relay.url)
    opened = OwnerView(etcd=etcd, cluster=cluster, supervisor=supervisor)
    await opened.start()
    yield opened
    await opened.stop()
    await etcd.close()


async def test_an_active_key_names_the_owner(view: OwnerView, client: Etcd, cluster: str) -> None:
    await client.put(ClusterKeys(cluster).owner(5), key("a", OwnerState.ACTIVE, 3))
    await until(lambda: view.owner(5) is not None)
    assert view.owner(5) == Owner("a", "a:1", 3, OwnerState.ACTIVE)
    assert view.owner(6) is None


async def test_a_claimed_shard_has_no_owner_until_it_runs(
    view: OwnerView, client: Etcd, cluster: str
) -> None:
    await client.put(ClusterKeys(cluster).owner(5), key("a", OwnerState.ACTIVE, 3))
    await until(lambda: view.owner(5) is not None)
    await client.put(ClusterKeys(cluster).owner(5), key("b", OwnerState.CLAIMED))
    await until(lambda: view.owner(5) is None)


async def test_a_claimed_shard_that_another_still_runs_is_his(
    view: OwnerView, client: Etcd, cluster: str
) -> None:
    await client.put(ClusterKeys(cluster).owner(5), key("b", OwnerState.CLAIMED, 3, from_node="a"))
    await until(lambda: view.owner(5) is not None)
    assert view.owner(5) == Owner("a", "a:1", 3, OwnerState.CLAIMED)


async def test_waiting_for_an_owner_ends_when_there_is_one(
    view: OwnerView, client: Etcd, cluster: str
) -> None:
    waiting = asyncio.create_task(view.wait_for(5, asyncio.get_running_loop().time() + 30))
    await client.put(ClusterKeys(cluster).owner(5), key("a", OwnerState.ACTIVE, 1))
    assert (await waiting).node_id == "a"


async def test_waiting_for_an_owner_ends_at_the_deadline(view: OwnerView) -> None:
    with pytest.raises(NotOwner):
        await view.wait_for(5, asyncio.get_running_loop().time() + 0.05)


async def test_the_last_seen_owner_stays_while_etcd_is_away(
    view: OwnerView, client: Etcd, cluster: str, relay: Relay
) -> None:
    await client.put(ClusterKeys(cluster).owner(5), key("a", OwnerState.ACTIVE, 1))
    await until(lambda: view.owner(5) is not None)
    await relay.cut()
    await client.put(ClusterKeys(cluster).owner(5), key("b", OwnerState.ACTIVE, 2))
    assert view.owner(5) == Owner("a", "a:1", 1, OwnerState.ACTIVE)
    await relay.open()
    await until(lambda: view.owner(5) == Owner("b", "b:1", 2, OwnerState.ACTIVE))


async def test_calls_can_be_routed_by_the_last_table_while_etcd_is_away(
    view: OwnerView, client: Etcd, cluster: str, relay: Relay
) -> None:
    assert await view.unready() == "no session-node has joined this cluster: there is no table"
    await client.put(ClusterKeys(cluster).assignment, encode_table(Table(("a",) * SHARDS)))
    await until(lambda: view.table_revision > 0)
    await relay.cut()
    assert await view.unready() == ""
    await relay.open()


async def test_registered_nodes_are_listed_by_id(view: OwnerView, client: Etcd, cluster: str) -> None:
    nodes = [
        NodeInfo(id=name, incarnation=f"{name}-1", address="x:1", capacity=1, state=NodeState.ACTIVE)
        for name in ("b", "a")
    ]
    for node in nodes:
        await client.put(ClusterKeys(cluster).node(node.id), encode(node))
    await until(lambda: view.nodes() == nodes[::-1])


async def test_a_registered_service_is_found_until_it_stops(
    client: Etcd, cluster: str, supervisor: Supervisor
) -> None:
    directory = ServiceDirectory(client, cluster, "media", supervisor=supervisor)
    await directory.start()
    one = ServiceInfo(id="m1", address="127.0.0.1:1")
    registration = await register(client, cluster, "media", one, supervisor=supervisor)
    await until(lambda: directory.services() == [one])
    await registration.stop()
    await until(lambda: directory.services() == [])
    await directory.stop()


async def test_services_of_another_kind_or_cluster_are_not_found(
    client: Etcd, cluster: str, supervisor: Supervisor
) -> None:
    directory = ServiceDirectory(client, cluster, "media", supervisor=supervisor)
    await directory.start()
    other = ServiceInfo(id="w1", address="127.0.0.1:1")
    mine = ServiceInfo(id="m1", address="127.0.0.1:2")
    registrations = [
        await register(client, cluster, "webhook", other, supervisor=supervisor),
        await register(client, f"{cluster}-2", "media", other, supervisor=supervisor),
        await register(client, cluster, "media", mine, supervisor=supervisor),
    ]
    await until(lambda: directory.services() != [])
    assert directory.services() == [mine]
    for registration in registrations:
        await registration.stop()
    await directory.stop()
