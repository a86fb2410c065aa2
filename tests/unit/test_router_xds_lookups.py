"""Route lookups, names that are looked up, and the log of refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from mesh_core import ids
from mesh_core.errors import InvalidArgument
from mesh_core.ids import Prefix
from mesh_core.ownership.keys import OwnerState
from mesh_core.ownership.view import Owner
from mesh_router.xds.client import Refusal
from mesh_router.xds.lookups import Lookups
from mesh_router.xds.names import Names
from mesh_router.xds.refusals import LINES, PERIOD_SECONDS, RefusalLog
from mesh_wire.lookup.rls_pb2 import RouteLookupRequest, RouteLookupResponse
from tests.support.eventually import eventually

ACCOUNT = ids.new_id(Prefix.ACCOUNT)
OWNER = Owner("node-1", "10.0.1.1:7601", 7, OwnerState.ACTIVE)
CONTEXT: Any = None  # lookups do not look at it


class Mesh:
    """One owner, of the account's shard, and where the nodes are registered."""

    def __init__(self, address: str | None = OWNER.address) -> None:
        self._address = address

    def owner(self, shard: int) -> Owner | None:
        return OWNER if shard == ids.shard_of(ACCOUNT) else None

    def node_address(self, node_id: str) -> str | None:
        return self._address if node_id == OWNER.node_id else None


async def look_up(mesh: Mesh, **keys: str) -> RouteLookupResponse:
    request = RouteLookupRequest(target_type="grpc", key_map=keys)
    answer = await Lookups(mesh, mesh).route_lookup(request.SerializeToString(), CONTEXT)
    return RouteLookupResponse.FromString(answer)


async def test_the_owner_comes_first_and_then_the_router_with_the_epoch_for_the_owner() -> None:
    found = await look_up(Mesh(), account=ACCOUNT)
    assert (list(found.targets), found.header_data) == (["node:node-1", "router"], "epoch=7")


@pytest.mark.parametrize(
    "account", ["", "acc_", "acc_01", "nonsense", "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV", "x" * 9999]
)
async def test_what_is_no_account_goes_to_the_router(account: str) -> None:
    found = await look_up(Mesh(), account=account)
    assert (list(found.targets), found.header_data) == (["router"], "")


async def test_a_call_without_an_account_goes_to_the_router() -> None:
    assert list((await look_up(Mesh())).targets) == ["router"]


async def test_an_account_of_a_shard_without_owner_goes_to_the_router() -> None:
    other = next(
        account
        for account in iter(lambda: ids.new_id(Prefix.ACCOUNT), "")
        if ids.shard_of(account) != ids.shard_of(ACCOUNT)
    )
    assert list((await look_up(Mesh(), account=other)).targets) == ["router"]


@pytest.mark.parametrize("registered", [None, "10.0.1.1:9999"])
async def test_an_owner_that_is_not_where_its_cluster_leads_is_not_told(registered: str | None) -> None:
    assert list((await look_up(Mesh(registered), account=ACCOUNT)).targets) == ["router"]


async def test_a_call_that_is_made_again_goes_to_the_router() -> None:
    assert list((await look_up(Mesh(), account=ACCOUNT, attempts="1")).targets) == ["router"]


async def test_bytes_that_are_no_lookup_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        await Lookups(Mesh(), Mesh()).route_lookup(b"\xff\xff\xff", CONTEXT)


class Dns:
    """Names of a test; an empty answer is an error."""

    def __init__(self, **names: set[str]) -> None:
        self.names = names

    async def __call__(self, host: str) -> frozenset[str]:
        if not self.names.get(host):
            raise OSError("no such name")
        return frozenset(self.names[host])


async def test_ip_addresses_mean_themselves() -> None:
    names = Names(Dns())
    assert names.resolve(["10.0.0.1:1", "[::1]:2"]) == {
        "10.0.0.1:1": ("10.0.0.1:1",),
        "[::1]:2": ("[::1]:2",),
    }


async def test_a_name_means_its_addresses_once_they_are_found() -> None:
    names = Names(Dns(router={"10.0.0.2", "10.0.0.1", "::1"}))
    assert names.resolve(["router:7600"]) == {"router:7600": ()}
    running = asyncio.create_task(names.run())
    await eventually(lambda: names.changes.version)
    assert names.resolve(["router:7600"]) == {"router:7600": ("10.0.0.1:7600", "10.0.0.2:7600", "[::1]:7600")}
    running.cancel()


async def test_a_name_that_is_not_found_any_more_keeps_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_router.xds.names.REFRESH_SECONDS", 0.01)
    dns = Dns(router={"10.0.0.1"})
    names = Names(dns)
    names.resolve(["router:7600"])
    running = asyncio.create_task(names.run())
    await eventually(lambda: names.resolve(["router:7600"])["router:7600"])
    dns.names = {}
    with capture_logs() as logs:
        await eventually(lambda: any(line["event"] == "name not found" for line in logs))
    assert names.resolve(["router:7600"]) == {"router:7600": ("10.0.0.1:7600",)}
    dns.names = {"router": {"10.0.0.9"}}
    await eventually(lambda: names.resolve(["router:7600"])["router:7600"] == ("10.0.0.9:7600",))
    running.cancel()


def test_refusals_of_many_clients_make_few_lines() -> None:
    now = 100.0
    log = RefusalLog(lambda: now)
    refusal = Refusal("type.googleapis.com/envoy.config.cluster.v3.Cluster", "v1", "no good", 0.0)
    with capture_logs() as logs:
        for n in range(1000):
            log.log(f"client-{n}", refusal)
        now += PERIOD_SECONDS
        log.log("client-1", refusal)
    assert len(logs) == LINES + 2
    assert logs[0]["client"] == "client-0"
    assert (logs[0]["type"], logs[0]["reason"]) == ("Cluster", "no good")
    assert logs[LINES]["times"] == 1000 - LINES
