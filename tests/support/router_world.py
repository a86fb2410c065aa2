"""A router over real etcd and Postgres, and nodes that serve what a test gives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from google.rpc import error_details_pb2, status_pb2

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.etcd import Etcd
from mesh_core.ids import Prefix
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, OwnerKey, OwnerState, encode
from mesh_core.process.service import Stop
from mesh_core.rpc.auth import TENANT_SCOPES, KeyAuthenticator, api_key_lookup
from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server import Server
from mesh_core.rpc.tls import ChannelTls
from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    LimitsSettings,
    RedisSettings,
    ServerSettings,
    TelemetrySettings,
)
from mesh_router.__main__ import main
from mesh_router.settings import RouterSettings
from mesh_router.xds.resources import CLUSTER_TYPE, ENDPOINT_TYPE
from sessionmesh.admin.v1 import fleet_pb2, fleet_pb2_grpc
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    common_pb2,
    content_pb2,
    job_pb2_grpc,
    message_pb2,
    tenant_pb2,
    tenant_pb2_grpc,
)
from tests.support.ads import AdsStream, endpoints, resources
from tests.support.eventually import eventually
from tests.support.relay import Relay
from tests.support.servers import patient_etcd_at

ADMIN_KEY = "administrator-of-this-test"
MESH_KEY = "mesh-key-of-this-test"
AUTH = AuthSettings(bootstrap_key=ADMIN_KEY, mesh_key=MESH_KEY)
Add = Callable[[Any, Any], None]
PLAINTEXT = ServerSettings()


@dataclass
class RouterWorld:
    """A running router and the means to put nodes behind it."""

    address: str
    etcd: Etcd
    cluster: str
    database: Database
    channel: grpc.aio.Channel
    stack: AsyncExitStack
    stop: Stop
    tls: ServerSettings = PLAINTEXT
    """With the files of certificates, where the mesh speaks TLS."""
    kinds: set[str] = field(default_factory=set)
    """Of the instances that were registered."""

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[RouterWorld]:
        """The same router for one test, at whose end it has neither nodes nor instances any more."""
        async with AsyncExitStack() as stack:
            scene = replace(self, stack=stack, kinds=set())
            try:
                yield scene
            finally:
                await scene.clear()

    async def clear(self) -> None:
        """Delete the keys of all nodes, owners and instances, and wait until the router has seen it."""
        keys = ClusterKeys(self.cluster)
        for prefix in (keys.owners, keys.nodes, *(self._services(kind) for kind in self.kinds)):
            for found in (await self.etcd.prefix(prefix)).kvs:
                await self.etcd.delete(found.key)

        async def forgotten() -> bool:
            nodes = await self.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)
            request = fleet_pb2.GetPlacementRequest(shard=0)
            placement = await self.fleet.GetPlacement(request, metadata=ADMIN)
            return not nodes.nodes and placement.unowned == ids.SHARDS

        await eventually(forgotten, what="a router without nodes")
        async with AdsStream(self.channel, "end-of-a-test") as ads:
            await ads.subscribe(CLUSTER_TYPE)
            while any(name.startswith("node:") for name in await _received(ads)):
                pass
            await ads.subscribe(ENDPOINT_TYPE, "router", *self.kinds)
            left = {*self.kinds}
            while left:  # without instances xDS clients are sent to the routers instead
                for kind, assignment in (await _received(ads)).items():
                    if endpoints(assignment) == [[self.address]]:
                        left.discard(kind)

    def _services(self, kind: str) -> bytes:
        return f"/{self.cluster}/services/{kind}/".encode()

    def stub(self, make: Callable[[grpc.aio.Channel], Any]) -> Any:
        """A stub on the channel to the router."""
        return make(self.channel)

    @property
    def accounts(self) -> Any:
        return self.stub(account_pb2_grpc.AccountServiceStub)

    @property
    def tenants(self) -> Any:
        return self.stub(tenant_pb2_grpc.TenantServiceStub)

    @property
    def fleet(self) -> Any:
        return self.stub(fleet_pb2_grpc.FleetServiceStub)

    @property
    def jobs(self) -> Any:
        return self.stub(job_pb2_grpc.JobServiceStub)

    async def node(
        self,
        name: str,
        services: Mapping[Add, object] | None = None,
        auth: AuthSettings = AUTH,
        *,
        relay: Relay | None = None,
        entry: Entry | None = None,
    ) -> Node:
        """Start a node that serves `services` and register it as ACTIVE; it owns nothing yet.

        With `relay`, which is open, it is reached through that alone; with `entry` it limits calls.
        """
        node = await self._serving(name, services, auth, relay, entry)
        await node.register()
        return node

    async def instance(self, kind: str, services: Mapping[Add, object]) -> Node:
        """Start an instance of another kind of service, such as `media`, and register it."""
        node = await self._serving(f"{kind}-host", services, AUTH, None)
        self.kinds.add(kind)
        key = self._services(kind) + str(ids.new_uuid()).encode()
        await self.etcd.put(key, msgspec.json.encode({"id": kind, "address": node.server.address}))
        return node

    async def _serving(
        self,
        name: str,
        services: Mapping[Add, object] | None,
        auth: AuthSettings,
        relay: Relay | None,
        entry: Entry | None = None,
    ) -> Node:
        advertise = relay.url if relay is not None else ""
        server = Server(
            msgspec.structs.replace(self.tls, drain_seconds=0.1, advertise=advertise),
            authenticator=KeyAuthenticator(api_key_lookup(self.database), auth),
            entry=entry,
        )
        for add, servicer in (services or {}).items():
            server.add(add, servicer)
        port = await server.start()
        if relay is not None:
            relay.target = f"127.0.0.1:{port}"
        node = Node(name, server, self)
        self.stack.push_async_callback(node.kill)
        return node


@dataclass
class Node:
    """A server that poses as a session-node."""

    name: str
    server: Server
    world: RouterWorld
    epochs: dict[int, int] = field(default_factory=dict)

    async def register(self) -> None:
        info = NodeInfo(
            id=self.name,
            incarnation=f"{self.name}-1",
            address=self.server.address,
            capacity=100,
            state=NodeState.ACTIVE,
        )
        await self.world.etcd.put(ClusterKeys(self.world.cluster).node(self.name), encode(info))

    async def unregister(self) -> None:
        await self.world.etcd.delete(ClusterKeys(self.world.cluster).node(self.name))

    async def own(self, account_id: str, epoch: int = 1) -> None:
        """Write the owner key of the account's shard as ownership does."""
        key = OwnerKey(
            incarnation=f"{self.name}-1",
            node=self.name,
            address=self.server.address,
            state=OwnerState.ACTIVE,
            epoch=epoch,
        )
        await self.world.etcd.put(
            ClusterKeys(self.world.cluster).owner(ids.shard_of(account_id)), encode(key)
        )

    async def kill(self) -> None:
        """End every call and refuse connections, without a word to etcd."""
        await self.server.stop()


@asynccontextmanager
async def router_world(
    postgres_url: str,
    etcd: str,
    cluster: str,
    tls: ServerSettings = PLAINTEXT,
    redis: RedisSettings | None = None,
    limits: LimitsSettings | None = None,
) -> AsyncIterator[RouterWorld]:
    """A router, ready to serve; without a Redis it limits nothing."""
    async with AsyncExitStack() as stack:
        database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=4))
        stack.push_async_callback(database.close)
        client = patient_etcd_at(etcd)
        stack.push_async_callback(client.close)
        settings = RouterSettings(
            server=msgspec.structs.replace(tls, drain_seconds=0.2),
            database=DatabaseSettings(url=postgres_url, pool_size=6),
            etcd=EtcdSettings(endpoints=(etcd,)),
            cluster=ClusterSettings(name=cluster),
            auth=AUTH,
            telemetry=TelemetrySettings(),
            redis=redis or RedisSettings(),
            limits=limits or LimitsSettings(),
        )
        stop = Stop()
        task = asyncio.create_task(main(settings, stop))
        stack.push_async_callback(_end, stop, task)
        address = await _registered(client, cluster, task)
        channel = open_channel(address, tls=ChannelTls.of(tls))
        stack.push_async_callback(channel.close)
        yield RouterWorld(address, client, cluster, database, channel, stack, stop, tls)


def bearer(key: str, **others: str) -> list[tuple[str, str]]:
    """Metadata with credentials; other keys have underscores for hyphens."""
    return [
        ("authorization", f"Bearer {key}"),
        *((name.replace("_", "-"), value) for name, value in others.items()),
    ]


ADMIN = bearer(ADMIN_KEY)


async def account_maker(world: RouterWorld) -> Callable[..., Any]:
    """A call that creates an account of a new tenant under a request id."""
    tenant = await world.tenants.CreateTenant(
        tenant_pb2.CreateTenantRequest(request_id=new_account(), tenant=tenant_pb2.Tenant()), metadata=ADMIN
    )

    def create(request_id: str, **fields: Any) -> Any:
        account = account_pb2.Account(**fields)
        request = account_pb2.CreateAccountRequest(
            request_id=request_id, tenant_id=tenant.tenant.id, account=account
        )
        return world.accounts.CreateAccount(request, metadata=ADMIN)

    return create


async def tenant_key(world: RouterWorld) -> str:
    """A key of a new tenant, that may do what is not an administrator's."""
    made = await world.tenants.CreateTenant(
        tenant_pb2.CreateTenantRequest(request_id=new_account(), tenant=tenant_pb2.Tenant()), metadata=ADMIN
    )
    scopes = sorted(TENANT_SCOPES)
    request = tenant_pb2.CreateApiKeyRequest(
        request_id=new_account(), tenant_id=made.tenant.id, scopes=scopes
    )
    return str((await world.tenants.CreateApiKey(request, metadata=ADMIN)).secret)


def message_to_get(account_id: str) -> message_pb2.GetMessageRequest:
    """A complete request about a message of the account."""
    return message_pb2.GetMessageRequest(
        account_id=account_id, message=common_pb2.MessageRef(message_id="msg_1")
    )


def message_to_send(account_id: str, request_id: str, **fields: Any) -> message_pb2.SendMessageRequest:
    """A complete request to send a message."""
    return message_pb2.SendMessageRequest(
        account_id=account_id,
        request_id=request_id,
        recipient="phone:+4915112345678",
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
        **fields,
    )


def new_account() -> str:
    return ids.new_id(Prefix.ACCOUNT)


def failure(error: grpc.aio.AioRpcError) -> SimpleNamespace:
    """The parts of a failed call: code, reason, metadata, field, resource, quota, retry_after."""
    trailing = dict(error.trailing_metadata() or ())
    assert "grpc-status-details-bin" in trailing, f"no details: {error}"
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    found = SimpleNamespace(code=error.code(), reason="", field="", resource="", quota="", retry_after=None)
    info, bad, resource = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.ResourceInfo(),
    )
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    for packed in status.details:
        if packed.Unpack(info):
            assert info.domain == "sessionmesh"
            found.reason, found.metadata = info.reason, dict(info.metadata)
        elif packed.Unpack(bad):
            found.field = bad.field_violations[0].field
        elif packed.Unpack(resource):
            found.resource = f"{resource.resource_type} {resource.resource_name}"
        elif packed.Unpack(quota):
            found.quota = quota.violations[0].subject
        elif packed.Unpack(retry):
            found.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return found


async def failing(call: Any) -> SimpleNamespace:
    """The failure of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return failure(raised.value)


async def _received(ads: AdsStream) -> dict[str, Any]:
    """The resources of the next response by name, after it was acknowledged."""
    response = await ads.receive()
    await ads.acknowledge(response)
    return resources(response)


async def _registered(etcd: Etcd, cluster: str, router: asyncio.Task[None]) -> str:
    async with asyncio.timeout(60):
        while True:
            if router.done():
                router.result()
            found = await etcd.prefix(f"/{cluster}/services/router/".encode())
            if found.kvs:
                return str(msgspec.json.decode(found.kvs[0].value)["address"])
            await asyncio.sleep(0.02)


async def _end(stop: Stop, task: asyncio.Task[None]) -> None:
    stop.ask("the test has ended")
    await task
