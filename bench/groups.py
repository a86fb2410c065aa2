"""What messages to large groups cost, with the receipts of all members, and what other accounts notice.

The mesh of `mesh up` with two session-nodes; one account in groups of 1,024 on the simulated network, whose
other members confirm each message, and other accounts that write to people.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from bench.measuring.pairs import PAIRS, Median, compared
from bench.measuring.report import Report
from bench.mesh.accounts import Customer, make_customer, phone_of
from bench.mesh.generator import load_generator
from bench.mesh.load import Plan
from bench.mesh.running import RunningMesh, running_mesh
from mesh_core.ids import new_uuid
from mesh_core.rpc.channels import open_channel
from sessionmesh.internal.v1.receipt_record_pb2 import ReceiptPart
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import content_pb2, message_pb2, message_pb2_grpc

_MEMBERS = "SELECT count(*) FROM account_record WHERE kind = 11"
# Who waits for the end must not add to the cost: what was there before is not looked at, nor any receipt read
_DELIVERED = "SELECT count(*) FROM message WHERE id > $1 AND status >= 40 AND status < 60"
_BYTES_OF_RECEIPTS = (
    "SELECT coalesce(sum(octet_length(receipts)), 0) FROM message_receipt_part WHERE part > $1"
)
_PARTS = "SELECT receipts FROM message_receipt_part WHERE part > $1"
NODES, OTHERS, CALLERS, MEMBERS = 2, 40, 2, 1_024
RATE = 1.0
"""Messages a second to groups, in turn, while other accounts are watched."""
_APART = frozenset({"simulator", "webhook", "media"})
"""Processes that are not counted; those that are: router, session-nodes, Postgres, etcd and Redis."""
_RECEIPT_BYTES = len("+4916") + 8 + len("phone:") + 2 + 8
"""Of one member in a `ReceiptPart`: the address, what stands before it, and the time."""
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
    """CPU milliseconds per message by process, and how the others' p99 compares."""

    direct: Mapping[str, float]
    group: Mapping[str, float]
    others: Median


def run(quick: bool) -> Report:
    """Measure; `send_cpu_over_direct` is for a message to a group with all receipts of its members stored,
    over one to a person with its receipt.
    """
    size = Size(5, 400, 50, 0.4) if quick else Size(100, 4_000, 1_000, 2.0)
    load_before = os.getloadavg()[0]
    measured = asyncio.run(_measure(size))
    receipts = MEMBERS - 1
    direct_ms, group_ms = sum(measured.direct.values()), sum(measured.group.values())
    figures = {
        "send_cpu_over_direct": group_ms / direct_ms,
        "cpu_us_per_receipt": (group_ms - direct_ms) * 1000 / receipts,
        "others_p99_ratio": measured.others.value,
    }
    notes = (
        f"{size.groups} groups of {MEMBERS:,}: {size.to_groups:,} messages to them cost {group_ms:.2f} ms of "
        f"CPU each with their {receipts:,} receipts, {size.direct:,} to people {direct_ms:.2f} ms.",
        f"ms of a message to a group: {_by_process(measured.group)}.",
        f"ms of a message to a person: {_by_process(measured.direct)}.",
        f"p99 of other accounts' sends with {RATE:g} group messages a second over without, in {PAIRS} "
        f"interleaved pairs of {size.seconds:g} s: {measured.others}.",
        f"{NODES} session-nodes, {OTHERS} other accounts, {CALLERS} callers in a closed loop. Load average "
        f"of the machine before: {load_before:.1f}.",
    )
    return Report("groups", figures, notes=notes)


def _by_process(cost: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {ms:.2f}" for name, ms in cost.items())


async def _measure(size: Size) -> Measured:
    async with running_mesh(NODES, _ENVIRONMENT) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, OTHERS + 1)
        groups = await _groups(mesh, phone_of(0), size.groups)
        database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
        sender = _Sender(mesh, customer)
        try:
            await _reached(database, size.groups * MEMBERS, _MEMBERS)
            people = [f"phone:+49170{number:07}" for number in range(size.direct)]
            await _cost(mesh, database, sender, people[: size.direct // 4])
            direct = await _cost(mesh, database, sender, people)
            # Who members are, the network tells a connection once
            await _cost(mesh, database, sender, groups[:1], MEMBERS - 1)
            to = list(itertools.islice(itertools.cycle(groups), size.to_groups))
            group = await _cost(mesh, database, sender, to, MEMBERS - 1)
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
    mesh: RunningMesh, database: asyncpg.Connection, sender: _Sender, recipients: list[str], receipts: int = 0
) -> Mapping[str, float]:
    """CPU milliseconds of each process per message, until all is stored that comes of it: each has so many
    receipts of members.
    """
    since, expected = new_uuid(), receipts * len(recipients)
    before = mesh.cpu_seconds()
    await sender.send(recipients)
    await _reached(database, len(recipients), _DELIVERED, since)
    await _reached(database, expected * _RECEIPT_BYTES, _BYTES_OF_RECEIPTS, since)
    after = mesh.cpu_seconds()
    async with asyncio.timeout(_SETTLED_SECONDS):
        while (found := await _receipts(database, since)) < expected:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.25)
    if found > expected:
        raise RuntimeError(f"{found:,} receipts of members are stored, of {expected:,}")
    return {
        name: (used - before[name]) * 1000 / len(recipients)
        for name, used in after.items()
        if name not in _APART
    }


async def _receipts(database: asyncpg.Connection, since: UUID) -> int:
    """Receipts of members that are stored since then."""
    parts = await database.fetch(_PARTS, since)
    return sum(len(ReceiptPart.FromString(part["receipts"]).members) for part in parts)


async def _reached(database: asyncpg.Connection, least: int, query: str, *arguments: object) -> None:
    """Return once a query's number is that high. Raises `TimeoutError`."""
    async with asyncio.timeout(_SETTLED_SECONDS):
        while await database.fetchval(query, *arguments) < least:  # noqa: ASYNC110 - in another process
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
