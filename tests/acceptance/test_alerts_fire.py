"""Every alert fires in a real mesh, watched by a real Prometheus, when what it is about is made to happen.

The rules are those of `deploy/prometheus` but for three things: they wait for nothing (`for`), minutes are
seconds (`SECOND` in `tests/support/prometheus_server.py`), and thresholds that a test cannot reach are lower.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from aiohttp import web

from mesh_core import ids
from mesh_core.database.watch import BACKUP_SLOT
from mesh_core.ids import Prefix
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, contact_pb2, media_pb2, tenant_pb2
from tests.acceptance.alert_world import (
    CAUSED,
    Watched,
    causes,
    most_connections,
    new_accounts,
    open_transaction,
)
from tests.support.alert_rules import alerts
from tests.support.etcd_space import etcd_without_space
from tests.support.eventually import eventually
from tests.support.extra_part import part_with_certificate
from tests.support.mesh_api import SCOPES, Caller, Tenant, open_caller, text_message, unique
from tests.support.mesh_process import MeshProcess
from tests.support.prometheus_server import PrometheusServer, node_exporter, prometheus
from tests.support.webhook_world import receiver

pytestmark = [pytest.mark.timed, pytest.mark.long]

THRESHOLDS = {
    # What this machine has in any case: it is not filled for a test.
    ("MachineMemoryHigh", "ticket"): "0.01",
    ("MachineMemoryHigh", "page"): "0.01",
    ("MachineCpuHigh", "ticket"): "0.001",
    ("MachineCpuHigh", "page"): "0.001",
    ("MachineDiskFull", "ticket"): "0.001",
    ("MachineDiskFull", "page"): "0.001",
    ("FilesRunningOut", "page"): "0.000001",
    # A few instead of many.
    ("AccountsDisconnected", "ticket"): "0",
    ("AccountsDisconnected", "page"): "1",
    ("AccountsLost", "page"): "0",
    ("WebhookQueueLong", "ticket"): "2",
    ("MediaLost", "ticket"): "0",
    ("PartRestarting", "page"): "0",
    ("DatabaseSnapshotOld", "ticket"): "5",
    ("BackupBehind", "page"): "1000",
    # Seconds instead of minutes, hours and a day.
    ("OutboxOld", "ticket"): "2",
    ("EventsPositionStuck", "page"): "2",
    ("ShardsUnowned", "page"): "2",
    ("DatabaseSnapshotOld", "page"): "2",
    ("RetentionLate", "ticket"): "0.1",
}
EXCUSED = {
    "ForeignFailures": "every way that is known to make a session fail at what a network tells was mended",
    "EventsGivenUp": "it takes 100,000 events that a tenant is owed, or some that are a week old",
    "ShardsNotReleased": "a node that hangs and beats in Postgres would be ended by its watchdog first",
    "ClockSkewed": "parts and Postgres of one machine have one clock",
    "LoginsUnusable": "the simulated network refuses no client for its age",
    "SidecarDown": "the simulated network has no sidecar",
}
"""Alerts that nothing here causes, and why."""
ENVIRONMENT = {
    "MESH_NODE_CAPACITY": "2",
    "MESH_SESSION_FAILURES_PER_HOUR": "1000",
    "MESH_SESSION_RISK_LEAST_RECIPIENTS": "1",
    "MESH_MEDIA_SWEEP_SECONDS": "1",
    "MESH_MEDIA_FETCH_ALLOW_HTTP": "true",
    "MESH_MEDIA_FETCH_ALLOW_PRIVATE_ADDRESSES": "true",
    "MESH_WEBHOOK_RETRY_SCHEDULE": "0,1,600",
}


@pytest.fixture(scope="module")
def mesh_to_break(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[MeshProcess, PrometheusServer, str]]:
    """A mesh of two nodes with servers of its own, and who watches it."""
    folder = Path(tempfile.mkdtemp(prefix="sessionmesh-test-"))
    mesh = MeshProcess(folder / "state", nodes=2, environment=ENVIRONMENT)
    try:
        mesh.start()
        with (
            prometheus(folder / "prometheus", THRESHOLDS) as watching,
            node_exporter() as machine,
            part_with_certificate(mesh, folder) as extra,
        ):
            watching.watch(mesh)
            watching.targets("machine", machine)
            watching.targets("webhook", mesh.file.parts["webhook"].metrics, extra)
            yield mesh, watching, extra
        mesh.stop()
    finally:
        mesh.ensure_gone()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def watched(
    request: pytest.FixtureRequest,
    mesh_to_break: tuple[MeshProcess, PrometheusServer, str],
    record_property: Any,
) -> AsyncIterator[Watched]:
    """What the test makes fire is counted, by name."""
    mesh, watching, extra = mesh_to_break
    watched = Watched(mesh, watching, request.function.alerts, extra)
    yield watched
    record_property("alerts_fired_for_real", len(watched.fired))
    assert watched.fired == watched.names


@pytest.fixture
async def admin(watched: Watched) -> AsyncIterator[Caller]:
    async with open_caller(watched.mesh.address, watched.mesh.file.admin_key) as caller:
        yield caller


@pytest.fixture
async def tenant(admin: Caller) -> Tenant:
    return Tenant(*await admin.new_tenant())


ACCOUNTS: list[account_pb2.Account] = []
TENANTS: list[tuple[str, str]] = []


@pytest.fixture
async def owner(admin: Caller) -> Caller:
    """Who has the accounts that all tests of this module share."""
    if not TENANTS:
        tenant_id, caller = await admin.new_tenant()
        TENANTS.append((tenant_id, caller.key))
        ACCOUNTS.extend(await new_accounts(caller, admin, 3))
    return admin.with_key(TENANTS[0][1])


def test_every_alert_is_caused_or_excused(record_property: Any) -> None:
    names = {alert.name for alert in alerts()}
    assert CAUSED | EXCUSED.keys() == names
    assert not CAUSED & EXCUSED.keys()
    assert len(EXCUSED) <= len(names) / 5
    record_property("alerts_excused", len(EXCUSED))


@causes("AlertingWorks", "CertificateExpiring", "MachineMemoryHigh", "MachineCpuHigh", "MachineDiskFull")
async def test_what_is_so_from_the_start(watched: Watched) -> None:
    await watched.fire()


@causes("FilesRunningOut", "RetentionLate")
async def test_files_and_old_data_of_a_part(watched: Watched) -> None:
    await watched.fire()


@causes("CapacityHigh", "CapacityFull")
async def test_a_full_fleet(watched: Watched, owner: Caller, admin: Caller) -> None:
    watched.quiet("CapacityFull")
    ACCOUNTS.extend(await new_accounts(owner, admin, 1))
    await watched.fire()


@causes("SessionsRisky")
async def test_an_account_that_writes_to_strangers(watched: Watched, owner: Caller) -> None:
    watched.quiet("SessionsRisky")
    await owner.send(text_message(ACCOUNTS[0].id))
    await watched.fire()


@causes("CacheHitRateLow")
async def test_numbers_that_nobody_asked_for_before(watched: Watched, owner: Caller) -> None:
    asked = asyncio.create_task(_ask_for_numbers(owner))
    await watched.fire()
    asked.cancel()


async def _ask_for_numbers(caller: Caller) -> None:
    for number in range(1000):
        phones = [f"+49151{number:04}{place:04}" for place in range(20)]
        request = contact_pb2.CheckNumbersRequest(account_id=ACCOUNTS[0].id, phones=phones)
        with suppress(grpc.aio.AioRpcError):
            await caller(caller.contacts.CheckNumbers, request)
        await asyncio.sleep(1)


@causes("WebhookFailures", "WebhookQueueLong")
async def test_an_endpoint_that_fails(watched: Watched, owner: Caller) -> None:
    watched.quiet("WebhookFailures", "WebhookQueueLong")
    async with receiver() as failing:
        failing.answer = lambda _: web.Response(status=500)
        await owner.new_endpoint(failing.url, "message.*")
        for _ in range(3):
            await owner.send(text_message(ACCOUNTS[0].id))
        await watched.fire()


@causes("EventsPositionStuck", "DatabaseSnapshotOld", "DatabaseConnectionsHigh")
async def test_somebody_forgets_a_transaction(watched: Watched, owner: Caller) -> None:
    watched.quiet("EventsPositionStuck", "DatabaseConnectionsHigh")
    url = watched.database()
    async with open_transaction(url), most_connections(url, 0.9):
        for _ in range(10):
            await owner.send(text_message(ACCOUNTS[0].id))
        await watched.fire()


@causes("BackupBehind")
async def test_nobody_follows_the_log(watched: Watched, owner: Caller) -> None:
    watched.quiet("BackupBehind")
    connection = await asyncpg.connect(watched.database())
    await connection.execute("SELECT pg_create_physical_replication_slot($1, true)", BACKUP_SLOT)
    try:
        for _ in range(10):
            await owner.send(text_message(ACCOUNTS[0].id))
        await watched.fire()
    finally:
        await connection.execute("SELECT pg_drop_replication_slot($1)", BACKUP_SLOT)
        await connection.close()


@causes("MediaDamaged", "MediaLost", "MediaStoreNearlyFull")
async def test_files_are_lost_and_a_tenant_has_no_room(watched: Watched, admin: Caller) -> None:
    watched.quiet("MediaDamaged", "MediaLost", "MediaStoreNearlyFull")
    caller = await _tenant_with(admin, max_media_bytes=1000)
    media = await caller.upload(bytes(range(256)) * 3 + bytes(132), "a.bin")
    for place in (watched.mesh.state / "objects").rglob("*"):
        if place.is_file():
            place.unlink()
    with suppress(grpc.aio.AioRpcError):
        request = media_pb2.DownloadMediaRequest(media_id=media.id)
        async for _ in caller.media.DownloadMedia(request, metadata=caller.metadata):
            pass
    async with receiver() as empty:
        empty.answer = lambda _: web.Response(status=404)
        fetch = media_pb2.FetchMediaRequest(request_id=unique(), url=f"{empty.url}/a.jpg")
        await caller(caller.media.FetchMedia, fetch)
        await watched.fire()


async def _tenant_with(admin: Caller, **settings: Any) -> Caller:
    tenant = tenant_pb2.Tenant(external_id=unique(), settings=tenant_pb2.TenantSettings(**settings))
    request = tenant_pb2.CreateTenantRequest(request_id=unique(), tenant=tenant)
    made = await admin(admin.tenants.CreateTenant, request)
    key = tenant_pb2.CreateApiKeyRequest(request_id=unique(), tenant_id=made.tenant.id, scopes=SCOPES)
    return admin.with_key((await admin(admin.tenants.CreateApiKey, key)).secret)


@causes("AuditDropped")
async def test_the_audit_log_cannot_be_written(watched: Watched, admin: Caller) -> None:
    watched.quiet("AuditDropped")
    connection = await asyncpg.connect(watched.database())
    await connection.execute("ALTER TABLE audit_event RENAME TO audit_event_away")
    try:
        await admin.new_tenant()
        await watched.fire()
    finally:
        await connection.execute("ALTER TABLE audit_event_away RENAME TO audit_event")
        await connection.close()


@causes("RedisLost")
async def test_redis_is_silent(watched: Watched, admin: Caller) -> None:
    watched.quiet("RedisLost")
    caller = await _tenant_with(admin, calls_per_second=10)  # so few that Redis is asked about each
    with watched.frozen("redis"):
        called = asyncio.create_task(_call(caller))
        await watched.fire()
        called.cancel()


async def _call(caller: Caller) -> None:
    while True:
        with suppress(grpc.aio.AioRpcError):
            await caller(caller.accounts.ListAccounts, account_pb2.ListAccountsRequest())
        await asyncio.sleep(0.1)


@causes("CallsSlow", "CallsStuck", "CallsFailing")
async def test_postgres_is_silent(watched: Watched, owner: Caller) -> None:
    watched.quiet("CallsStuck", "CallsFailing")
    with watched.frozen("postgres"):
        calls = [asyncio.create_task(_send(owner, ACCOUNTS[at % 2].id)) for at in range(20)]
        await watched.fire()
        for call in calls:
            call.cancel()


async def _send(caller: Caller, account_id: str) -> None:
    """Again and again: Prometheus tells no rate of a series that it sees once."""
    while True:
        with suppress(grpc.aio.AioRpcError):
            await caller(caller.messages.SendMessage, text_message(account_id))


@causes("ViewStale", "AuthorityLost")
async def test_etcd_is_silent(watched: Watched) -> None:
    watched.quiet("ViewStale")
    with watched.frozen("etcd"):
        await watched.fire()


@causes("KeepaliveNearDeadline")
async def test_etcd_and_postgres_are_silent(watched: Watched) -> None:
    with watched.frozen("etcd", "postgres"):
        await watched.fire()


@causes("PartDown", "PartMissing", "EventLoopSlow")
async def test_the_only_part_of_a_kind_and_one_of_two_hang(watched: Watched) -> None:
    watched.quiet("PartDown", "PartMissing")
    with watched.frozen("media", "webhook"):
        await watched.fire("PartDown", "PartMissing")
    await watched.fire("EventLoopSlow")


@causes("PartRestarting")
async def test_a_part_is_killed(watched: Watched) -> None:
    watched.mesh.kill_part("media")
    await watched.fire()


@causes("AccountsDisconnected", "ConnectedShareLow", "NetworkFailing", "OutboxOld")
async def test_the_network_refuses_all(watched: Watched, owner: Caller, admin: Caller) -> None:
    for account in ACCOUNTS:
        await owner.until_online(account.id, 60)
    watched.quiet("NetworkFailing")
    for kind in (simulator_pb2.FAULT_KIND_REFUSE_LOGINS, simulator_pb2.FAULT_KIND_DROP_CONNECTION):
        await admin(admin.simulator.InjectFault, simulator_pb2.InjectFaultRequest(kind=kind))
    try:
        await owner.send(text_message(ACCOUNTS[0].id))
        await watched.fire()
    finally:
        await admin(admin.simulator.ClearFaults, simulator_pb2.ClearFaultsRequest())


@causes("AssignmentTableStale", "ShardsUnowned")
async def test_a_node_hangs_while_etcd_has_no_space(watched: Watched, owner: Caller, admin: Caller) -> None:
    await _until_both_nodes_run(admin)
    session = await owner.until_online(ACCOUNTS[0].id, 60)
    watched.quiet("AssignmentTableStale")
    with watched.frozen(session.node_id):
        async with etcd_without_space(watched.etcd()):
            await watched.fire()


@causes("PlannerRefusing", "NoActiveNode")
async def test_one_node_drains_and_the_other_hangs(watched: Watched, admin: Caller) -> None:
    await _until_both_nodes_run(admin)
    await watched.until_quiet("PlannerRefusing", "NoActiveNode")
    first, second = sorted(name for name in watched.mesh.file.parts if name.startswith("node"))
    drain = fleet_pb2.DrainNodeRequest(request_id=unique(), node_id=first, force=True)
    await admin(admin.fleet.DrainNode, drain)
    try:
        with watched.frozen(second):
            await watched.fire()
    finally:
        await admin(admin.fleet.UndrainNode, fleet_pb2.UndrainNodeRequest(node_id=first))


async def _until_both_nodes_run(admin: Caller) -> None:
    """What hung before may have lost its sessions, and ended."""

    async def both() -> bool:
        listed = await admin(admin.fleet.ListNodes, fleet_pb2.ListNodesRequest())
        return [node.state for node in listed.nodes] == [fleet_pb2.NODE_STATE_ACTIVE] * 2

    await eventually(both, 60, "both nodes")


@causes("AccountsUnloadable")
async def test_a_credential_is_damaged(watched: Watched, owner: Caller) -> None:
    session = await owner.until_online(ACCOUNTS[1].id, 60)
    connection = await asyncpg.connect(watched.database())
    account = ids.decode(Prefix.ACCOUNT, ACCOUNTS[1].id, "account_id")
    await connection.execute("UPDATE credential SET blob = '\\x00' WHERE account = $1", account)
    await connection.close()
    node = next(name for name in watched.mesh.file.parts if name == session.node_id)
    watched.mesh.kill_part(node)
    await watched.fire()


@causes("AccountsLost")
async def test_the_network_logs_an_account_out(watched: Watched, owner: Caller, admin: Caller) -> None:
    await owner.until_online(ACCOUNTS[0].id, 60)
    fault = simulator_pb2.InjectFaultRequest(kind=simulator_pb2.FAULT_KIND_LOG_OUT, phone=ACCOUNTS[0].phone)
    await admin(admin.simulator.InjectFault, fault)
    await watched.fire()
