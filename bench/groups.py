"""What messages to large groups cost, with the receipts of all members, and what other accounts notice.

The mesh of `mesh up` with two session-nodes; one account in groups of 1,024 on the simulated network, whose
other members confirm each message, and other accounts that write to people.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from bench.measuring.pairs import PAIRS, Median, compared
from bench.measuring.report import Report
from bench.mesh.accounts import Customer, make_customer, phone_of
from bench.mesh.generator import load_generator
from bench.mesh.load import Plan
from bench.mesh.running import RunningMesh, running_mesh
from mesh_core.rpc.channels import open_channel
from sessionmesh.internal.v1.receipt_record_pb2 import ReceiptPart
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import content_pb2, message_pb2, message_pb2_grpc

_PARTS = "SELECT part, receipts FROM message_receipt_part WHERE part <> ALL ($1::uuid[])"
NODES, OTHERS, CALLERS, MEMBERS = 2, 40, 2, 1_024
RATE = 1.0
"""Messages a second to groups, in turn, while other accounts are watched."""
_SETTLED_SECONDS = 120.0
_ENVIRONMENT = {
    "MESH_SESSION_SEND_PER_MINUTE": "1000000",
    "MESH_SESSION_SEND_PER_HOUR": "10000000",
    "MESH_SESSION_SEND_PER_DAY": "100000000",
    "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
    "MESH_TELEMETRY_SAMPLE_RATIO": "0",
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure."""

    groups: int
    direct: int
    to_groups: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU milliseconds of nodes and Postgres per message, and how the others' p99 compares."""

    direct_ms: float
    group_ms: float
    others: Median


def run(quick: bool) -> Report:
    """Measure; `send_cpu_over_direct` is of nodes and Postgres, for a message to a group with all receipts of
    its members stored, over one to a person with its receipt.
    """
    size = Size(5, 400, 6, 0.4) if quick else Size(100, 4_000, 100, 2.0)
    load_before = os.getloadavg()[0]
    measured = asyncio.run(_measure(size))
    receipts = MEMBERS - 1
    figures = {
        "send_cpu_over_direct": measured.group_ms / measured.direct_ms,
        "cpu_us_per_receipt": (measured.group_ms - measured.direct_ms) * 1000 / receipts,
        "others_p99_ratio": measured.others.value,
    }
    notes = (
        f"{size.groups} groups of {MEMBERS:,}: a message to one cost {measured.group_ms:.1f} ms of CPU in "
        f"nodes and Postgres with its {receipts:,} receipts, one to a person {measured.direct_ms:.2f} ms.",
        f"p99 of other accounts' sends with {RATE:g} group messages a second over without, in {PAIRS} "
        f"interleaved pairs of {size.seconds:g} s: {measured.others}.",
        f"{NODES} session-nodes, {OTHERS} other accounts, {CALLERS} callers in a closed loop. Load average "
        f"of the machine before: {load_before:.1f}.",
    )
    return Report("groups", figures, notes=notes)


async def _measure(size: Size) -> Measured:
    async with running_mesh(NODES, _ENVIRONMENT) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, OTHERS + 1)
        groups = await _groups(mesh, phone_of(0), size.groups)
        database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
        sender = _Sender(mesh, customer)
        try:
            await _stored(database, "account_record WHERE kind = 11", size.groups * MEMBERS)
            people = [f"phone:+49170{number:07}" for number in range(size.direct)]
            await sender.send(people[: size.direct // 4])
            await _delivered(database, size.direct // 4)
            sent, counted = size.direct // 4 + size.direct, _Counted(database)
            direct = await _cost(mesh, database, sender, people, sent, counted, 0)
            # Who members are, the network tells a connection once
            await _cost(mesh, database, sender, groups[:1], sent + 1, counted, MEMBERS - 1)
            to = list(itertools.islice(itertools.cycle(groups), size.to_groups))
            sent, receipts = sent + 1 + size.to_groups, (size.to_groups + 1) * (MEMBERS - 1)
            group = await _cost(mesh, database, sender, to, sent, counted, receipts)
            others = await _others(mesh, customer, sender, groups, size.seconds)
        finally:
            await sender.close()
            await database.close()
    return Measured(direct, group, others)


class _Sender:
    """Sends as the account that is in the groups."""

    def __init__(self, mesh: RunningMesh, customer: Customer) -> None:
        self._channel = open_channel(mesh.file.address)
        self._send = message_pb2_grpc.MessageServiceStub(self._channel).SendMessage
        self._metadata = (("authorization", f"Bearer {customer.key}"),)
        self._account = customer.accounts[0]
        self._serial = itertools.count()

    async def send(self, recipients: list[str]) -> None:
        """One message to each, 16 at a time."""
        room = asyncio.Semaphore(16)

        async def one(recipient: str) -> None:
            async with room:
                request = message_pb2.SendMessageRequest(
                    account_id=self._account,
                    request_id=f"groups-{next(self._serial)}",
                    recipient=recipient,
                    content=content_pb2.Content(text=content_pb2.TextContent(body="hello everybody")),
                )
                await self._send(request, metadata=self._metadata, timeout=20)

        await asyncio.gather(*map(one, recipients))

    @contextlib.asynccontextmanager
    async def steadily(self, groups: list[str]) -> AsyncIterator[None]:
        """`RATE` messages a second to these groups in turn, meanwhile."""

        async def go_on() -> None:
            for group in itertools.cycle(groups):
                await self.send([group])
                await asyncio.sleep(1 / RATE)

        task = asyncio.create_task(go_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> None:
        await self._channel.close()


async def _groups(mesh: RunningMesh, phone: str, count: int) -> list[str]:
    """Groups of the account with this number and 1,023 people."""
    members = [phone, *(f"+4916{number:08}" for number in range(MEMBERS - 1))]
    async with open_channel(mesh.file.address) as channel:
        network = simulator_pb2_grpc.SimulatorServiceStub(channel)
        metadata = (("authorization", f"Bearer {mesh.file.admin_key}"),)
        made = []
        for number in range(count):
            request = simulator_pb2.CreateNetworkGroupRequest(subject=f"Group {number}", members=members)
            answer = await network.CreateNetworkGroup(request, metadata=metadata, timeout=60)
            made.append(str(answer.group.address))
        return made


async def _cost(
    mesh: RunningMesh,
    database: asyncpg.Connection,
    sender: _Sender,
    recipients: list[str],
    messages: int,
    counted: _Counted,
    receipts: int,
) -> float:
    """CPU milliseconds of nodes and Postgres per message, until all is stored that comes of it."""
    used = _used(mesh)
    await sender.send(recipients)
    await _delivered(database, messages)
    async with asyncio.timeout(_SETTLED_SECONDS):
        while (found := await counted.count()) < receipts:  # noqa: ASYNC110 - in other processes
            await asyncio.sleep(0.25)
    if found > receipts:
        raise RuntimeError(f"{found:,} receipts of members are stored, of {receipts:,}")
    return (_used(mesh) - used) * 1000 / len(recipients)


class _Counted:
    """Receipts of members that are stored; each part of them is read once."""

    def __init__(self, database: asyncpg.Connection) -> None:
        self._database = database
        self._seen: set[UUID] = set()
        self._count = 0

    async def count(self) -> int:
        rows = await self._database.fetch(_PARTS, [*self._seen])
        for row in rows:
            self._seen.add(row["part"])
            self._count += len(ReceiptPart.FromString(row["receipts"]).members)
        return self._count


def _used(mesh: RunningMesh) -> float:
    return sum(
        seconds
        for name, seconds in mesh.cpu_seconds().items()
        if name.startswith("node-") or name == "Postgres"
    )


async def _delivered(database: asyncpg.Connection, messages: int) -> None:
    """Return once so many messages are DELIVERED."""
    await _stored(database, "message WHERE status >= 40 AND status < 60", messages)


async def _stored(database: asyncpg.Connection, what: str, count: int) -> None:
    """Return once a table has so many rows. Raises `TimeoutError`."""
    async with asyncio.timeout(_SETTLED_SECONDS):
        while await database.fetchval(f"SELECT count(*) FROM {what}") < count:  # noqa: ASYNC110 - constants
            await asyncio.sleep(0.25)


async def _others(
    mesh: RunningMesh, customer: Customer, sender: _Sender, groups: list[str], seconds: float
) -> Median:
    """p99 of other accounts' sends while the groups are written to, over that without, pair by pair."""
    plan = Plan(mesh.file.address, customer.key, customer.accounts[1:], CALLERS)
    with_groups: list[float] = []
    without: list[float] = []
    async with load_generator(plan) as load:
        await load.round(seconds)
        for pair in range(PAIRS):
            for loaded in (True, False) if pair % 2 else (False, True):
                async with sender.steadily(groups) if loaded else contextlib.nullcontext():
                    done = await load.round(seconds)
                (with_groups if loaded else without).append(done.p99_ms)
                await asyncio.sleep(min(0.3, seconds))
    return compared(with_groups, without)
