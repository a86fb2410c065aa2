"""A session-node's surroundings for tests: the simulated network in this process, nodes in processes of their
own.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
from asyncpg.pgproto.pgproto import UUID

from mesh_cli.embedded import free_port
from mesh_core.ids import Prefix, encode, new_uuid, shard_of
from mesh_core.rpc.auth import new_api_key
from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.limits import relayed_metadata
from mesh_simulator.accounts.account import Account as NetworkAccount
from mesh_simulator.checker import check
from mesh_simulator.faults.faults import FaultKind
from mesh_simulator.ledger.records import Kind
from mesh_simulator.network import Network
from mesh_simulator.settings import SimulatorSettings
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import (
    media_pb2,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from sessionmesh.v1.common_pb2 import MessageRef
from tests.conftest import Databases, LoopThread
from tests.support.eventually import eventually
from tests.support.log import Log

RECIPIENT = "+4915112345678"
MESH_KEY = "mesh-key-of-this-test"
_NODE, _MEDIA = "mesh_session_node", "mesh_media"


@dataclass
class Account:
    """A mesh account of the stage's tenant."""

    id: str
    uuid: UUID
    phone: str


@dataclass
class NodeProcess:
    """A running session-node, or media service."""

    process: asyncio.subprocess.Process
    address: str
    log: Log
    channel: grpc.aio.Channel
    module: str

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    @property
    def messages(self) -> Any:
        return message_pb2_grpc.MessageServiceStub(self.channel)

    @property
    def internal(self) -> Any:
        return node_pb2_grpc.NodeServiceStub(self.channel)

    @property
    def media(self) -> Any:
        return media_pb2_grpc.MediaServiceStub(self.channel)

    @property
    def sessions(self) -> Any:
        return session_pb2_grpc.SessionServiceStub(self.channel)

    async def stop(self) -> int:
        """Drain; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@dataclass
class Stage:
    """Everything that a test needs."""

    database: asyncpg.Pool
    network: Network
    environment: dict[str, str]
    tenant: UUID
    key: str
    folder: Path
    nodes: list[NodeProcess] = field(default_factory=list)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"),)

    @property
    def relayed(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call that a router passes on."""
        return (*self.metadata, *relayed_metadata(MESH_KEY))

    async def start_node(self, **environment: str) -> NodeProcess:
        """A node that takes part when this returns; its shards come soon after."""
        node = await self._start(_NODE, MESH_NODE_ID=f"node-{len(self.nodes)}", **environment)
        await self._until(node, "session-node runs")
        return node

    async def running_nodes(self, count: int, **environment: str) -> list[NodeProcess]:
        """So many nodes that take part: those that run already, and new ones in place of any that ended."""
        running = [node for node in self.nodes if node.module == _NODE and node.runs]
        while len(running) < count:
            running.append(await self.start_node(**environment))
        return running

    async def start_media(self) -> NodeProcess:
        """A media service on a directory."""
        media = await self._start(_MEDIA, MESH_OBJECTS_URL=f"file://{self.folder}/objects")
        await self._until(media, "serving")
        return media

    async def running_media(self) -> NodeProcess:
        """The media service, started when none runs."""
        for process in self.nodes:
            if process.module == _MEDIA and process.runs:
                return process
        return await self.start_media()

    async def upload(self, media: NodeProcess, data: bytes) -> str:
        """The id of a file of the tenant."""

        async def frames() -> AsyncIterator[media_pb2.UploadMediaRequest]:
            header = media_pb2.UploadHeader(request_id=secrets.token_hex(8), size_bytes=len(data))
            yield media_pb2.UploadMediaRequest(header=header)
            yield media_pb2.UploadMediaRequest(chunk=data)

        answer = await media.media.UploadMedia(frames(), metadata=self.metadata)
        return str(answer.media.id)

    async def _start(self, module: str, **environment: str) -> NodeProcess:
        port = free_port()
        log = self.folder / f"process-{len(self.nodes)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                env={
                    **os.environ,
                    **self.environment,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "MESH_SERVER_LISTEN": f"127.0.0.1:{port}",
                    **environment,
                },
                stdout=output,
                stderr=output,
            )
        node = NodeProcess(process, f"127.0.0.1:{port}", Log(log), open_channel(f"127.0.0.1:{port}"), module)
        self.nodes.append(node)
        return node

    @staticmethod
    async def _until(process: NodeProcess, words: str) -> None:
        """Waits until the log has these words; AssertionError with the log when they do not come."""
        with suppress(AssertionError):  # of a time that ran out: the log tells more
            await eventually(lambda: not process.runs or process.log.says(words))
        assert process.log.says(words), process.log.text()

    async def create_account(self, driver: str = "simulated") -> Account:
        uuid = new_uuid()
        name = encode(Prefix.ACCOUNT, uuid)
        await self.database.execute(
            "INSERT INTO account (id, tenant, driver, shard) VALUES ($1, $2, $3, $4)",
            uuid,
            self.tenant,
            driver,
            shard_of(name),
        )
        return Account(name, uuid, f"+49170{secrets.randbelow(10**7):07}")

    async def of_another_tenant(self) -> Account:
        """An account that the stage's key must not see."""
        tenant = new_uuid()
        await self.database.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
        account = await self.create_account()
        await self.database.execute("UPDATE account SET tenant = $1 WHERE id = $2", tenant, account.uuid)
        return account

    async def of_a_new_tenant(self) -> Stage:
        """The same stage, for another tenant with a key of its own."""
        tenant = new_uuid()
        return replace(self, tenant=tenant, key=await _new_tenant(self.database, tenant))

    async def paired(self, node: NodeProcess) -> Account:
        """An account that is paired and connected on `node`."""
        account = await self.create_account()
        await self.pair(node, account)
        await self.until_state(node, account, session_pb2.SESSION_STATE_CONNECTED)
        return account

    async def pair(self, node: NodeProcess, account: Account) -> list[Any]:
        """Pair by QR; the steps that were shown."""
        steps = []
        async for step in await self.pairing(node, account):
            steps.append(step)
            if step.HasField("qr"):
                self.network.pairing.accept(step.qr.text, account.phone)
                self.network.flush()
        return steps

    async def pairing(self, node: NodeProcess, account: Account, **fields: Any) -> AsyncIterator[Any]:
        """The steps of a new attempt by QR."""
        request = session_pb2.PairRequest(account_id=account.id, request_id=secrets.token_hex(8), **fields)
        begun: AsyncIterator[Any] = await self.owned(
            lambda: _begin(node.sessions.Pair(request, metadata=self.metadata))
        )
        return begun

    async def session(self, node: NodeProcess, account: Account) -> Any:
        request = session_pb2.GetSessionRequest(account_id=account.id)
        answer = await self.owned(lambda: node.sessions.GetSession(request, metadata=self.metadata))
        return answer.session

    async def until_state(self, node: NodeProcess, account: Account, state: int) -> Any:
        async def reached() -> session_pb2.Session | None:
            session = await self.session(node, account)
            return session if session.state == state else None

        return await eventually(reached)

    async def owned(self, call: Any) -> Any:
        """The answer of a call that may come before the node has the shard."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await call()
                except grpc.aio.AioRpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.05)

    async def send(self, node: NodeProcess, account: Account, text: str = "hello", **fields: Any) -> Any:
        request = text_request(account, text, **fields)
        answer = await node.messages.SendMessage(request, metadata=self.metadata, timeout=10)
        return answer.message

    async def message(self, message_id: str, account: Account, node: NodeProcess) -> Any:
        ref = MessageRef(message_id=message_id)
        request = message_pb2.GetMessageRequest(account_id=account.id, message=ref)
        answer = await self.owned(lambda: node.messages.GetMessage(request, metadata=self.metadata))
        return answer.message

    async def until_status(self, node: NodeProcess, account: Account, message_id: str, status: int) -> Any:
        async def reached() -> message_pb2.Message | None:
            message = await self.message(message_id, account, node)
            return message if message.status == status else None

        return await eventually(reached)

    async def refresh(self, node: NodeProcess, account: Account) -> None:
        """As the router tells a node that an account's row has changed."""
        await node.internal.RefreshAccounts(
            node_pb2.RefreshAccountsRequest(account_ids=[account.id]),
            metadata=(("authorization", f"Bearer {MESH_KEY}"),),
        )

    def inject(self, kind: FaultKind, account: Account | None = None, amount: float = 0.0) -> str:
        """A fault of the network; its id."""
        return self.network.faults.inject(kind, self.on_network(account) if account else None, amount, None)

    def on_network(self, account: Account) -> NetworkAccount:
        return self.network.directory.by_phone[account.phone]

    def records(self, kind: Kind, account: Account) -> list[Any]:
        """What the network saw of an account."""
        user_id = account.phone[1:]
        return [r for r in self.network.ledger.read() if r.kind == kind and r.account == user_id]

    async def outbox_is_empty(self, account: Account) -> bool:
        waiting = await self.database.fetchval("SELECT count(*) FROM outbox WHERE account = $1", account.uuid)
        return bool(waiting == 0)

    def verdict(self) -> Any:
        """What the network's own checker finds."""
        return check(self.network.ledger.read())

    def receive(
        self, account: Account, content: wire.Content, sender: str = RECIPIENT, network_id: str = ""
    ) -> str:
        """Somebody writes to the account; the network's id of the message."""
        message = wire.Inbound(
            id=network_id,
            sender=f"phone:{sender}",
            chat=f"phone:{sender}",
            push_name="Ada",
            content=content.SerializeToString(),
        )
        self.network.inbound.offer(self.on_network(account), message)
        self.network.flush()
        return message.id

    async def events(self, account: Account) -> list[tuple[str, bytes]]:
        rows = await self.database.fetch(
            "SELECT type, body FROM event WHERE account = $1 ORDER BY xid, seq", account.uuid
        )
        return [(row["type"], row["body"]) for row in rows]


@contextmanager
def fresh_database(databases: Databases, server_loop: LoopThread) -> Iterator[str]:
    """The URL of a fresh database for the tests of a module."""
    name = server_loop.run(databases.create_migrated())
    yield databases.url(name)
    server_loop.run(databases.drop(name))


def text_request(account: Account, text: str = "hello", **fields: Any) -> message_pb2.SendMessageRequest:
    """A message that may be sent."""
    request = message_pb2.SendMessageRequest(
        account_id=account.id, request_id=fields.pop("request_id", secrets.token_hex(8)), **fields
    )
    request.recipient = request.recipient or f"phone:{RECIPIENT}"
    request.content.text.body = text
    return request


@asynccontextmanager
async def open_stage(postgres_url: str, etcd: str, folder: Path, **simulator: Any) -> AsyncIterator[Stage]:
    """A tenant with a key, the simulated network, and no node yet."""
    network = Network(SimulatorSettings(listen="127.0.0.1:0", **simulator))
    await network.start()
    timers = asyncio.create_task(network.timers.run(), name="simulated network timers")
    pool = await asyncpg.create_pool(postgres_url, min_size=1, max_size=4)
    tenant = new_uuid()
    key = await _new_tenant(pool, tenant)
    environment = {
        "MESH_DATABASE_URL": postgres_url,
        "MESH_ETCD_ENDPOINTS": etcd,
        "MESH_CLUSTER_NAME": f"test-{secrets.token_hex(6)}",
        "MESH_SIMNET_ADDRESS": network.address,
        "MESH_AUTH_MESH_KEY": MESH_KEY,
        "MESH_SECRETS_MASTER_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "MESH_SESSION_PAIRING_INTERVAL_SECONDS": "0",
        "MESH_TELEMETRY_LOG_FORMAT": "json",
    }
    stage = Stage(pool, network, environment, tenant, key, folder)
    try:
        yield stage
    finally:
        for node in stage.nodes:
            await node.channel.close()
            with suppress(ProcessLookupError):
                await node.kill()
        timers.cancel()
        await asyncio.wait([timers])
        await network.close()
        await pool.close()


async def _new_tenant(pool: asyncpg.Pool, tenant: UUID) -> str:
    """A key of a new tenant."""
    key_id, key, digest = new_api_key()
    await pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    await pool.execute(
        "INSERT INTO api_key (id, tenant, hash, scopes, role) VALUES ($1, $2, $3, $4, 1)",
        key_id,
        tenant,
        digest,
        ["READ", "SEND", "MANAGE"],
    )
    return key


async def _begin(call: Any) -> AsyncIterator[Any]:
    """A stream whose first frame has come, so that an error before it can be tried again."""
    first = await call.read()

    async def frames() -> AsyncIterator[Any]:
        frame = first
        while frame is not grpc.aio.EOF:
            yield frame
            frame = await call.read()

    return frames()
