"""A running webhook service, a receiver for what it sends, and events to send."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from aiohttp import web
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.events.notify import CHANNEL
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Role, new_api_key
from mesh_core.settings import EtcdSettings, read
from mesh_webhook.__main__ import main
from mesh_webhook.settings import WebhookServiceSettings
from sessionmesh.v1 import event_pb2, event_pb2_grpc, webhook_pb2, webhook_pb2_grpc
from tests.support.running import Running, registered_address, running

ADMIN_KEY = "administrator-of-tests"
MESH_KEY = "mesh-key-of-these-tests"


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the receiver got it."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(slots=True)
class Receiver:
    """An HTTP server on loopback. `answer` decides what each request is answered with."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answer: Callable[[Received], web.StreamResponse] = lambda _request: web.Response()
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        received = Received(
            request.path, dict(request.headers), await request.read(), asyncio.get_running_loop().time()
        )
        async with self.changed:
            self.requests.append(received)
            self.changed.notify_all()
        await self.gate.wait()
        return self.answer(received)

    async def wait_for(self, count: int, path: str = "", timeout: float = 15) -> list[Received]:
        """The requests to `path` once there are `count`."""
        try:
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(lambda: len(self.to(path)) >= count)
        except TimeoutError:
            pytest.fail(f"{len(self.to(path))} of {count} requests within {timeout:g} s")
        return self.to(path)

    def to(self, path: str) -> list[Received]:
        return [request for request in self.requests if path in ("", request.path)]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 to everything at once."""
    made = Receiver()
    made.gate.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class World:
    """A database and the settings of services on it. Tests share it and make tenants of their own.

    The fan-out has one position per database, so services on one database share the work of all tenants.
    """

    pool: asyncpg.Pool
    environment: Mapping[str, str]

    async def tenant(self) -> Tenant:
        """A new tenant, and a key with all its scopes."""
        tenant = ids.new_uuid()
        await self.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
        return Tenant(self.pool, tenant, await insert_key(self.pool, tenant), ids.new_uuid())


async def insert_key(pool: asyncpg.Pool, tenant: UUID, *accounts: UUID) -> str:
    """A new key of a tenant with all scopes of everyday, limited to accounts if any are given."""
    key_id, key, digest = new_api_key()
    await pool.execute(
        "INSERT INTO api_key (id, tenant, hash, scopes, role, account_ids) VALUES ($1, $2, $3, $4, $5, $6)",
        key_id,
        tenant,
        digest,
        ["READ", "SEND", "MANAGE"],
        int(Role.TENANT),
        accounts or None,
    )
    return key


@asynccontextmanager
async def open_world(postgres_url: str, etcd: str) -> AsyncIterator[World]:
    """A world on a migrated database."""
    environment = {
        "MESH_SERVER_LISTEN": "127.0.0.1:0",
        "MESH_DATABASE_URL": postgres_url,
        "MESH_ETCD_ENDPOINTS": etcd,
        "MESH_AUTH_BOOTSTRAP_KEY": ADMIN_KEY,
        "MESH_AUTH_MESH_KEY": MESH_KEY,
        "MESH_SECRETS_MASTER_KEY": base64.b64encode(bytes(range(32))).decode(),
        "MESH_WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "true",
        "MESH_WEBHOOK_ALLOW_HTTP": "true",
        "MESH_SERVER_DRAIN_SECONDS": "3",
    }
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=4) as pool:
        yield World(pool, environment)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with an API key, and the account that its events are about."""

    pool: asyncpg.Pool
    uuid: UUID
    api_key: str
    account: UUID

    @property
    def id(self) -> str:
        return ids.encode(Prefix.TENANT, self.uuid)

    async def key_for(self, *account_ids: str) -> str:
        """A new key that is limited to these accounts."""
        accounts = [ids.decode(Prefix.ACCOUNT, name, "account_ids") for name in account_ids]
        return await insert_key(self.pool, self.uuid, *accounts)

    async def commit_own(self, event: event_pb2.Event) -> None:
        """Commits an event of the tenant's own, which is of no account."""
        event.id = ids.new_id(Prefix.EVENT)
        event.tenant_id = self.id
        await self._insert(self.pool, event, UUID(bytes(16)), 1)
        await self.pool.execute(f"NOTIFY {CHANNEL}")

    async def commit(
        self, *events: event_pb2.Event, notify: bool = True, body: bytes | None = None
    ) -> list[str]:
        """Commits events in one transaction, as a session-node does, with these bytes or their own as bodies;
        returns their ids.
        """
        names = []
        async with self.pool.acquire() as connection, connection.transaction():
            for seq, event in enumerate(events, 1):
                event.id = ids.new_id(Prefix.EVENT)
                names.append(event.id)
                event.tenant_id = event.tenant_id or self.id
                account = self.account
                if event.account_id:
                    account = ids.decode(Prefix.ACCOUNT, event.account_id, "account_id")
                event.account_id = ids.encode(Prefix.ACCOUNT, account)
                event.occur_time.GetCurrentTime()
                await self._insert(connection, event, account, seq, body)
        if notify:
            await self.pool.execute(f"NOTIFY {CHANNEL}")
        return names

    @staticmethod
    async def _insert(
        connection: asyncpg.Pool | asyncpg.pool.PoolConnectionProxy,
        event: event_pb2.Event,
        account: UUID,
        seq: int,
        body: bytes | None = None,
    ) -> None:
        await connection.execute(
            "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
            " VALUES ($1, $2, $3, $4, 1, $5, $6)",
            ids.decode(Prefix.EVENT, event.id, "id"),
            seq,
            ids.decode(Prefix.TENANT, event.tenant_id, "tenant_id"),
            account,
            event.type,
            event.SerializeToString() if body is None else body,
        )


class Client:
    """Stubs with a key."""

    def __init__(self, address: str, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self.webhooks = webhook_pb2_grpc.WebhookServiceStub(self._channel)
        self.events = event_pb2_grpc.EventServiceStub(self._channel)

    async def call(self, method: Any, request: Any) -> Any:
        """One unary call, as soon as the server answers."""
        return await method(request, metadata=self._metadata, timeout=30, wait_for_ready=True)

    def stream(self, request: event_pb2.SubscribeRequest) -> Any:
        return self.events.Subscribe(request, metadata=self._metadata, wait_for_ready=True)

    async def create(self, url: str, **fields: Any) -> webhook_pb2.CreateEndpointResponse:
        """An endpoint of the key's tenant."""
        endpoint = webhook_pb2.Endpoint(url=url, **fields)
        request = webhook_pb2.CreateEndpointRequest(request_id=ids.new_uuid().hex, endpoint=endpoint)
        answer: webhook_pb2.CreateEndpointResponse = await self.call(self.webhooks.CreateEndpoint, request)
        return answer

    async def deliveries(self, **fields: Any) -> list[webhook_pb2.Delivery]:
        answer = await self.call(
            self.webhooks.ListDeliveries, webhook_pb2.ListDeliveriesRequest(page_size=1000, **fields)
        )
        return list(answer.deliveries)

    async def close(self) -> None:
        await self._channel.close()


def service(world: World, **environment: str) -> AbstractAsyncContextManager[Running]:
    """The service's own `main` with the world's settings, drained in the end."""
    settings = read(
        WebhookServiceSettings, {"MESH_CLUSTER_NAME": new_cluster(), **world.environment, **environment}
    )
    return running("webhook", main, settings)


@dataclass(frozen=True, slots=True)
class WebhookProcess:
    """A service in a process of its own."""

    child: asyncio.subprocess.Process
    etcd: EtcdSettings
    cluster: str

    async def address(self) -> str:
        """Where it listens, once it has registered."""
        return await registered_address(self.etcd, self.cluster, "webhook")


@asynccontextmanager
async def process(world: World, **environment: str) -> AsyncIterator[WebhookProcess]:
    """The service in a process of its own, which is killed in the end if it still runs."""
    cluster = new_cluster()
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_webhook",
        env={**os.environ, "MESH_CLUSTER_NAME": cluster, **world.environment, **environment},
    )
    try:
        yield WebhookProcess(
            child, EtcdSettings(endpoints=(world.environment["MESH_ETCD_ENDPOINTS"],)), cluster
        )
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@asynccontextmanager
async def client(address: str, key: str) -> AsyncIterator[Client]:
    made = Client(address, key)
    try:
        yield made
    finally:
        await made.close()


def new_cluster() -> str:
    """The name of a cluster that has no other service: by it a service is found after its start."""
    return f"test-{uuid.uuid4().hex[:12]}"
