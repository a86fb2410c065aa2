"""Shared loops of a running mesh: each is given what it cannot read, and must go on with the next item.

The loops are those that run: every part counts its background tasks in `mesh_background_tasks`. The poison is
written, and the mesh is started again, so that also what runs once an hour meets it at once.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from mesh_core import ids
from mesh_core.etcd import Etcd
from mesh_core.ids import Prefix
from mesh_core.settings import EtcdSettings, read
from tests.hostile import poison
from tests.hostile.poison import Poison, Victim
from tests.support.eventually import eventually
from tests.support.fuzz.world import World, send
from tests.support.mesh_process import MeshProcess
from tests.support.webhook_world import Receiver

SETTLE_SECONDS = 60.0

READ_BY: dict[Poison, tuple[str, ...]] = {
    poison.events: (
        "fan-out",
        "event tail",
        "event streams",
        "event notifier",
        "event-notifier",
        "media events",
    ),
    poison.deliveries: ("dispatcher", "completions", "backlog", "maintenance"),
    poison.endpoints: ("fan-out", "dispatcher"),
    poison.owed: ("owed deliveries", "tidying"),
    poison.subscriptions: ("consumers",),
    poison.notifications: ("events listener", "deliveries listener"),
    poison.objects: ("sweeper",),
    poison.tenants: ("retention",),
    poison.media: ("media processing", "media fetching"),
    poison.jobs: (
        "deletions-of-tenants",
        "erasures-of-persons",
        "drains",
        "delete-ended-jobs",
        "pruning",
        "migrations-of-storage",
        "scans-of-storage",
        "replays",
        "history",
    ),
    poison.accounts: (
        "journal",
        "connects",
        "networks",
        "keepalive",
        "chats",
        "reconcile",
        "late receipts",
        "receipt acknowledgements",
        "fleet-admission",
        "fleet-outages",
    ),
    poison.keys: (
        "owner-view",
        "ownership-keeper",
        "ownership-mirror",
        "ownership-rounds",
        "directory-media",
        "directory-webhook",
        "directory-router",
        "directory-simulator",
        "registration-media",
        "registration-webhook",
        "registration-router",
        "registration-simulator",
        "evict-unregistered",
        "evict-dead-nodes",
        "fleet-monitor",
        "fleet-watch",
        "fleet-etcd-liveness",
        "xds-names",
        "xds-follow",
        "xds-follow-drain",
        "xds-snapshots",
        "log levels",
    ),
}
"""Which loops read which poison."""
OF_NO_DATA = {
    "watchdog heartbeat",
    "worker-beats",
    "simulated network timers",
    "the network's program",
    "usage",  # numbers
    "database watch",  # what Postgres says of itself
    "media-workers",
    "current-store",
    "readiness",  # what the part's own servers say
    "audit log",  # what callers sent was made fit when the call was noted
    "sidecar",  # tasks of its own read what the network writes, and when they fail it goes on
}
"""Loops that read nothing that callers or the network write."""

NO_LOOPS = {
    "acquired",
    "handoff",
    "give-back",
    "release-fence",
    "give back room",
    "recall what was sent",
    "xds-push",
}
"""Tasks that end by themselves, and may run at one look and not at the next."""


class _Servers(msgspec.Struct, frozen=True):
    """What `read` takes."""

    etcd: EtcdSettings


@dataclass(frozen=True, slots=True)
class Loop:
    """A background task of a part."""

    part: str
    task: str


def running_loops(mesh: MeshProcess) -> set[Loop]:
    """Those that run now."""
    return {
        Loop(name, task)
        for name, part in mesh.file.parts.items()
        if part.metrics
        for task in _running(f"http://{part.metrics}/metrics")
        if task not in NO_LOOPS
    }


def without_poison(loops: set[Loop]) -> set[Loop]:
    """Those that nobody thought of: a new loop needs a poison."""
    known = {task for tasks in READ_BY.values() for task in tasks} | OF_NO_DATA
    return {loop for loop in loops if loop.task not in known}


async def alive_when_poisoned(mesh: MeshProcess, world: World, receiver: Receiver) -> set[Loop]:
    """The loops that still run, in the processes of the start, once others' messages have come through."""
    await world("CreateEndpoint", endpoint={"url": f"{receiver.url}/bystander"})
    async with _victim(mesh, world) as victim:
        for each in poison.ALL:
            await each(victim)
    await asyncio.to_thread(mesh.stop)
    await asyncio.to_thread(mesh.start)
    pids = {name: part.pid for name, part in mesh.file.parts.items()}
    await _comes_through(world, receiver)
    same = {name for name, part in mesh.file.parts.items() if pids.get(name) == part.pid}
    return {loop for loop in running_loops(mesh) if loop.part in same}


async def _comes_through(world: World, receiver: Receiver) -> None:
    """A message of the tenant is sent, is an event, and reaches its endpoint."""
    message_id = (await send(world, f"phone:{world.live['spare_phone']}")).encode()

    def told() -> bool:
        return any(b"message.sent" in one.body and message_id in one.body for one in receiver.requests)

    await eventually(told, SETTLE_SECONDS, "a bystander's message and webhook")


@asynccontextmanager
async def _victim(mesh: MeshProcess, world: World) -> AsyncIterator[Victim]:
    settings = mesh.file.servers
    of_etcd = {name: value for name, value in settings.items() if name.startswith("MESH_ETCD_")}
    etcd = Etcd(read(_Servers, of_etcd).etcd)
    database = await asyncpg.connect(settings["MESH_DATABASE_URL"])
    try:
        yield Victim(
            database,
            etcd,
            settings.get("MESH_CLUSTER_NAME", "sessionmesh"),
            ids.decode(Prefix.TENANT, world.live["tenant_id"], "tenant"),
            ids.decode(Prefix.ACCOUNT, world.live["account_id"], "account"),
            ids.decode(Prefix.ENDPOINT, world.live["endpoint_id"], "endpoint"),
        )
    finally:
        await database.close()
        await etcd.close()


def _running(url: str) -> Iterator[str]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    for family in text_string_to_metric_families(page):
        if family.name == "mesh_background_tasks":
            yield from (sample.labels["task"] for sample in family.samples if sample.value > 0)
