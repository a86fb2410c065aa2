"""A mesh is lost with its machine and restored from a backup: nothing is sent twice, all accounts go on."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_simulator.network import Network
from mesh_simulator.service import SimulatorServicer
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, event_pb2, media_pb2, message_pb2, session_pb2
from tests.acceptance.conftest import NO_LIMITS
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, open_caller, text_message
from tests.support.mesh_process import MeshProcess, run_mesh
from tests.support.simulated_network import running, settings
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import fake_network, is_built

AT_ONCE = 16
COMMAND_SECONDS = 180.0
ONLINE_SECONDS = 60.0
PHOTO = bytes(range(256)) * 200


@dataclass(frozen=True, slots=True)
class Outside:
    """A network, which outlives the mesh as WhatsApp does and remembers what it was sent. `service` is its
    SimulatorService.
    """

    service: Any
    arguments: tuple[str, ...]
    environment: dict[str, str]
    accounts: int
    later: int
    """Messages that are sent after the backup."""

    async def stats(self) -> simulator_pb2.GetNetworkStatsResponse:
        stats: simulator_pb2.GetNetworkStatsResponse = await self.service.GetNetworkStats(
            simulator_pb2.GetNetworkStatsRequest(), None
        )
        return stats


@asynccontextmanager
async def simulated() -> AsyncIterator[Outside]:
    async with running(Network(settings())) as network:
        environment = NO_LIMITS | {"MESH_SIMNET_ADDRESS": network.address}
        yield Outside(SimulatorServicer(network), (), environment, accounts=8, later=500)


@asynccontextmanager
async def linked_devices() -> AsyncIterator[Outside]:
    """Its people are real clients of the Signal protocol, which drop what comes at a position used before."""
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    async with fake_network() as (network, service):
        environment = NO_LIMITS | {
            "MESH_WHATSAPP_WEB_TEST_NETWORK": network.ready.network,
            "MESH_WHATSAPP_WEB_TEST_ROOT": network.ready.root_key,
        }
        yield Outside(service, ("--driver", "whatsapp_web"), environment, accounts=2, later=60)


@pytest.fixture
def meshes(tmp_state: Path) -> Iterator[Callable[[str, Outside], MeshProcess]]:
    """Makes meshes of one node, each on a machine of its own: a state directory."""
    made: list[MeshProcess] = []

    def make(name: str, outside: Outside) -> MeshProcess:
        mesh = MeshProcess(tmp_state / name, *outside.arguments, nodes=1, environment=outside.environment)
        made.append(mesh)
        return mesh

    yield make
    for mesh in made:
        mesh.ensure_gone()


@dataclass
class Backups:
    """`mesh backup` and `mesh restore`, as an operator types them."""

    folder: Path
    recipient: str = ""

    @property
    def key(self) -> Path:
        return self.folder / "key.json"

    async def mesh(self, state: Path, *command: str) -> Any:
        """What a command of the mesh in `state` answers; it must end well."""
        ended = await asyncio.to_thread(
            run_mesh,
            "--state",
            str(state),
            *command,
            seconds=COMMAND_SECONDS,
            MESH_BACKUP_URL=(self.folder / "backups").as_uri(),
            MESH_BACKUP_RECIPIENT=self.recipient,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout) if "--json" in command else ended.stdout.strip()


@dataclass
class Traffic:
    """What callers have sent, for the verdict over the network's ledger."""

    customer: Caller
    calls: list[simulator_pb2.CallerRecord] = field(default_factory=list)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def send(self, accounts: list[account_pb2.Account], count: int) -> None:
        """So many messages, shared out over the accounts, and until the network has shown all of them."""
        sent = await asyncio.gather(*(self.accept(accounts[n % len(accounts)]) for n in range(count)))
        for account, message in sent:
            await self.customer.until_delivered(account, message, ONLINE_SECONDS)

    async def accept(self, account: account_pb2.Account) -> tuple[str, str]:
        """One message is accepted: its account's id, and its own."""
        request = text_message(account.id)

        async def answered() -> message_pb2.Message | None:
            """As clients do: what is UNAVAILABLE is asked for again, under its request id."""
            try:
                return await self.customer.send(request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return None

        async with self.room:
            message = await eventually(answered, what="an accepted message")
        call = simulator_pb2.CallerRecord(
            request_id=request.request_id,
            account=account.id,
            message_id=message.id,
            network_message_id=message.network_message_id,
        )
        call.acknowledge_time.GetCurrentTime()
        self.calls.append(call)
        return account.id, message.id


async def pair(caller: Caller, account: account_pb2.Account, outside: Outside) -> None:
    """By QR, which a phone scans."""
    request = session_pb2.PairRequest(account_id=account.id, request_id=account.id[-20:])
    async for step in caller.sessions.Pair(request, metadata=caller.metadata, timeout=ONLINE_SECONDS):
        if step.WhichOneof("step") == "qr":
            scanned = simulator_pb2.AcceptPairingRequest(qr=step.qr.text, phone=account.phone)
            await outside.service.AcceptPairing(scanned, None)
    await caller.until_online(account.id, ONLINE_SECONDS)


def scheduled(account: account_pb2.Account, seconds: float) -> message_pb2.SendMessageRequest:
    request = text_message(account.id)
    request.schedule_time.CopyFrom(Timestamp(seconds=int(time.time() + seconds)))
    return request


async def newest_cursor(caller: Caller) -> str:
    """Where a stream of events would go on."""
    call = caller.events.Subscribe(event_pb2.SubscribeRequest(), metadata=caller.metadata)
    async for answer in call:
        if answer.heartbeat.cursor:
            call.cancel()
            return str(answer.heartbeat.cursor)
    raise AssertionError("the stream ended")


@pytest.mark.timed
@pytest.mark.long
@pytest.mark.parametrize("network", [simulated, linked_devices], ids=lambda network: str(network.__name__))
async def test_a_mesh_restored_from_an_old_backup_repeats_nothing(
    network: Callable[[], AbstractAsyncContextManager[Outside]],
    meshes: Callable[[str, Outside], MeshProcess],
    tmp_state: Path,
    record_property: Callable[[str, object], None],
) -> None:
    async with network() as outside:
        backups, lost = Backups(tmp_state), meshes("lost", outside)
        first = await asyncio.to_thread(lost.start)
        backups.recipient = await backups.mesh(lost.state, "backup", "key", str(backups.key))
        async with open_caller(first.address, first.admin_key) as admin:
            _, customer = await admin.new_tenant()
            accounts = [await customer.new_account() for _ in range(outside.accounts)]
            for account in accounts:
                await pair(customer, account, outside)
            traffic = Traffic(customer)
            await traffic.send(accounts, 5 * len(accounts))
            photo = await customer.upload(PHOTO, "photo.bin")
            offline = accounts[-1]
            off = session_pb2.DisconnectRequest(account_id=offline.id)
            await customer(customer.sessions.Disconnect, off)
            _, waiting = await traffic.accept(offline)
            tomorrow = await customer.send(scheduled(accounts[0], 86_400))

            await backups.mesh(lost.state, "backup", "run")
            await customer(customer.sessions.Connect, session_pb2.ConnectRequest(account_id=offline.id))
            await customer.until_delivered(offline.id, waiting, ONLINE_SECONDS)
            await traffic.send(accounts, outside.later)
            cursor = await newest_cursor(customer)
        lost.ensure_gone()
        shutil.rmtree(lost.state)

        new = meshes("new", outside)
        await backups.mesh(new.state, "restore", "--key", str(backups.key))
        before = await outside.stats()
        restored = await asyncio.to_thread(new.start)
        async with open_caller(restored.address, restored.admin_key) as admin:
            customer = admin.with_key(customer.key)

            async def in_doubt() -> bool:
                message = await customer.message(offline.id, waiting)
                return message.status == message_pb2.MESSAGE_STATUS_IN_DOUBT

            await eventually(in_doubt, what="the message that waited, in doubt")
            message = await customer.message(accounts[0].id, tomorrow.id)
            assert message.status == message_pb2.MESSAGE_STATUS_QUEUED
            expired = customer.events.Subscribe(
                event_pb2.SubscribeRequest(cursor=cursor), metadata=customer.metadata
            )
            assert await expired.code() is grpc.StatusCode.OUT_OF_RANGE
            rest = await outside.stats()
            assert (rest.logins, rest.accepted) == (before.logins, before.accepted), "released too early"

            released = await backups.mesh(new.state, "restore", "--release")
            assert released.startswith(f"{len(accounts)} accounts are online again")
            # It was disconnected when the backup was made, and so it stays until its owner connects it.
            await customer(customer.sessions.Connect, session_pb2.ConnectRequest(account_id=offline.id))
            repaired = [account for account in accounts if not await comes_online(customer, account)]
            traffic.customer = customer
            await traffic.send(accounts, 10 * len(accounts))
            get = media_pb2.DownloadMediaRequest(media_id=photo.id)
            frames = customer.media.DownloadMedia(get, metadata=customer.metadata)
            assert b"".join([frame.chunk async for frame in frames]) == PHOTO
        verdict = await outside.service.GetVerdict(simulator_pb2.GetVerdictRequest(calls=traffic.calls), None)
        record_property("restore_duplicates", verdict.duplicates)
        record_property("restore_ratchet_reuse", verdict.ratchet_reuse + verdict.unreadable)
        record_property("restore_repaired", len(repaired))
        assert verdict.clean, verdict.findings
        assert not repaired


async def comes_online(caller: Caller, account: account_pb2.Account) -> bool:
    """Whether it does without being paired anew."""
    try:
        await caller.until_online(account.id, ONLINE_SECONDS)
    except AssertionError:
        return False
    return True
