"""A long past of many chats, fetched while other accounts send: how long it takes, what it takes of a node's
memory, what others notice of it, and whether any of it is lost when the node is killed in the middle.

The mesh of `mesh up` with two session-nodes, on the simulated network or on the one of WhatsApp's protocol;
the phone is asked as fast as it answers, not 60 times a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import asyncpg
import grpc.aio
from asyncpg.pgproto.pgproto import UUID

from bench.measuring.pairs import PAIRS, Median, compared
from bench.measuring.report import Measured, Report
from bench.mesh.accounts import Customer, make_customer, make_linked_customer, phone_of
from bench.mesh.conditions import ENVIRONMENT
from bench.mesh.generator import LoadGenerator, load_generator
from bench.mesh.load import Plan
from bench.mesh.running import RunningMesh, running_mesh
from bench.whatsapp_web.benchmark import SETTINGS
from bench.whatsapp_web.nodes import NODES, Nodes
from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.channels import open_channel
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    content_pb2,
    event_pb2,
    job_pb2,
    job_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
)

PARTS = ("simulated", "whatsapp_web")
OTHERS, CALLERS = 40, 2
WHOLE, KILLED, PAIRED = range(3)
"""Accounts with a past: fetched to its end, with a kill in the middle, and a piece for each pair."""
_TIMEOUT, _END_SECONDS = 60.0, 1_800.0
_ENVIRONMENT = ENVIRONMENT | SETTINGS | {"MESH_SESSION_HISTORY_PER_MINUTE": "1000000"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: messages of the past in so many chats, and the seconds of half a pair."""

    messages: int
    chats: int
    pairs: int
    seconds: float

    @property
    def of_a_chat(self) -> int:
        return self.messages // self.chats


def run(quick: bool, parts: Collection[str] = PARTS) -> Report:
    """Measure; the figures of a part begin with its name."""
    sizes = {
        "simulated": Size(2_000, 10, 6, 0.4) if quick else Size(100_000, 100, PAIRS, 2.0),
        "whatsapp_web": Size(500, 5, 6, 0.4) if quick else Size(10_000, 20, PAIRS, 2.0),
    }
    measured = Measured()
    for part in PARTS:
        if part in parts:
            load = os.getloadavg()[0]
            found = asyncio.run(_measure(part, sizes[part]))
            about = f"{part}: load average of the machine before: {load:.1f}."
            measured = measured.with_more(found).with_more(Measured(notes=(about,)))
    about = f"{len(NODES)} session-nodes, {OTHERS} other accounts, {CALLERS} callers in a closed loop."
    return Report("history", dict(measured.figures), notes=(*measured.notes, about))


async def _measure(driver: str, size: Size) -> Measured:
    async with running_mesh(len(NODES), _ENVIRONMENT, driver) as mesh:
        others = await _accounts(mesh, driver, OTHERS + 3)
        plan = Plan(mesh.file.address, others.key, others.accounts[3:], CALLERS)
        async with _past(mesh, others) as past, load_generator(plan) as load:
            for account in (WHOLE, KILLED, PAIRED):
                await past.give(account, size, 10 * size.of_a_chat if account == PAIRED else size.of_a_chat)
            async with _sending(load):
                nodes = Nodes(mesh)
                before = nodes.memory_mb()
                seconds, most = await past.fetch_all(size, nodes)
                away = await past.fetch_over_a_kill(size, nodes)
            wrong = [await past.wrong(account, size) for account in (WHOLE, KILLED)]
            ratio = await _others(load, past, size)
    figures = {
        "messages_per_second": size.messages / seconds,
        "memory_mb_more": most - before,
        "resumed_seconds": away,
        "lost": sum(lost for lost, _ in wrong),
        "told_wrongly": sum(told for _, told in wrong),
        "others_p99_ratio": ratio.value,
    }
    notes = (
        f"{driver}: {size.messages:,} messages of {size.chats} chats in {seconds:.0f} s while others sent; "
        f"nodes took {before:.0f} MB before and {most:.0f} MB at most. A job whose node was killed went "
        f"on {away:.1f} s later.",
        f"{driver}: p99 of other accounts' sends while one's past is fetched over without, in {size.pairs} "
        f"interleaved pairs of {size.seconds:g} s: {ratio}.",
    )
    return Measured({f"{driver}_{name}": value for name, value in figures.items()}, notes)


async def _accounts(mesh: RunningMesh, driver: str, count: int) -> Customer:
    make = make_customer if driver == "simulated" else make_linked_customer
    return await make(mesh.file.address, mesh.file.admin_key, count, name="bench")


class _Past:
    """Accounts whose phones have a past."""

    def __init__(
        self, mesh: RunningMesh, customer: Customer, channel: grpc.aio.Channel, database: asyncpg.Connection
    ) -> None:
        self._customer = customer
        self._database = database
        self._metadata = (("authorization", f"Bearer {customer.key}"),)
        self._operator = (("authorization", f"Bearer {mesh.file.admin_key}"),)
        self._network = simulator_pb2_grpc.SimulatorServiceStub(channel)
        self._messages = message_pb2_grpc.MessageServiceStub(channel)
        self._chats = chat_pb2_grpc.ChatServiceStub(channel)
        self._jobs = job_pb2_grpc.JobServiceStub(channel)

    async def give(self, account: int, size: Size, of_a_chat: int) -> None:
        """The account writes to everybody whose chat has a past: from its message the phone is asked back."""
        for number in range(size.chats):
            chat = f"phone:+49170{number:07}"
            sent = message_pb2.SendMessageRequest(
                account_id=self._customer.accounts[account],
                request_id=f"past-{account}-{number}",
                recipient=chat,
                content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
                wait_for=message_pb2.WAIT_FOR_SENT,
            )
            await self._messages.SendMessage(sent, metadata=self._metadata, timeout=_TIMEOUT)
            given = simulator_pb2.GivePhoneHistoryRequest(
                phone=phone_of(account), chat=chat, messages=of_a_chat
            )
            await self._network.GivePhoneHistory(given, metadata=self._operator, timeout=_TIMEOUT)

    async def begin(self, account: int, request_id: str, size: Size) -> str:
        """The id of a job for all of it."""
        request = chat_pb2.SyncHistoryRequest(
            account_id=self._customer.accounts[account], request_id=request_id, max_messages=size.messages
        )
        begun = await self._chats.SyncHistory(request, metadata=self._metadata, timeout=_TIMEOUT)
        return str(begun.job.id)

    async def cancel(self, job: str) -> None:
        """And return once it has ended."""
        request = job_pb2.CancelJobRequest(job_id=job)
        await self._jobs.CancelJob(request, metadata=self._metadata, timeout=_TIMEOUT)
        await self.reaches(job, None)

    async def fetch_all(self, size: Size, nodes: Nodes) -> tuple[float, float]:
        """The seconds that it takes, and the most memory that nodes take meanwhile, in MB."""
        began, most = time.monotonic(), 0.0
        job = await self.begin(WHOLE, "whole", size)
        reaching = asyncio.create_task(self.reaches(job, None))
        while not reaching.done():
            most = max(most, await asyncio.to_thread(nodes.memory_mb))
            await asyncio.wait({reaching}, timeout=0.5)
        await reaching
        return time.monotonic() - began, most

    async def fetch_over_a_kill(self, size: Size, nodes: Nodes) -> float:
        """The node is killed in the middle; after so many seconds more of it is stored."""
        job = await self.begin(KILLED, "killed", size)
        await self.reaches(job, size.messages // 2)
        await nodes.kill_node(await self._node(KILLED))
        killed, reached = time.monotonic(), await self._done(job)
        await self.reaches(job, reached + 1)
        went_on = time.monotonic() - killed
        await self.reaches(job, None)
        return went_on

    async def reaches(self, job: str, messages: int | None) -> None:
        """Return once so many are fetched; None: once it has ended. Raises `TimeoutError`."""
        query = "SELECT done >= $2 OR end_time IS NOT NULL FROM job WHERE id = $1"
        async with asyncio.timeout(_END_SECONDS):
            most = 1 << 62 if messages is None else messages
            while not await self._database.fetchval(query, _uuid(job), most):  # noqa: ASYNC110 - elsewhere
                await asyncio.sleep(0.05)

    async def wrong(self, account: int, size: Size) -> tuple[int, int]:
        """Messages that are missing, and how many more or fewer events tell of."""
        uuid = ids.decode(Prefix.ACCOUNT, self._customer.accounts[account], "account")
        stored = await self._database.fetchval(_STORED, uuid)
        bodies = await self._database.fetch(_EVENTS, uuid)
        told = sum(event_pb2.Event.FromString(row["body"]).history.message_count for row in bodies)
        return size.messages - stored, abs(told - size.messages)

    async def _done(self, job: str) -> int:
        done: int = await self._database.fetchval("SELECT done FROM job WHERE id = $1", _uuid(job))
        return done

    async def _node(self, account: int) -> str:
        uuid = ids.decode(Prefix.ACCOUNT, self._customer.accounts[account], "account")
        return str(await self._database.fetchval("SELECT node FROM session WHERE account = $1", uuid))


@contextlib.asynccontextmanager
async def _past(mesh: RunningMesh, customer: Customer) -> AsyncIterator[_Past]:
    database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
    try:
        async with open_channel(mesh.file.address) as channel:
            yield _Past(mesh, customer, channel, database)
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def _sending(load: LoadGenerator) -> AsyncIterator[None]:
    """Others send meanwhile."""
    ending = asyncio.Event()

    async def go_on() -> None:
        while not ending.is_set():
            await load.round(1.0)

    sending = asyncio.create_task(go_on())
    try:
        yield
    finally:
        ending.set()
        await sending


async def _others(load: LoadGenerator, past: _Past, size: Size) -> Median:
    """p99 of others' sends while a past is fetched, over that without, pair by pair."""
    busy: list[float] = []
    idle: list[float] = []
    await load.round(size.seconds)
    for pair in range(size.pairs):
        for loaded in (True, False) if pair % 2 else (False, True):
            if loaded:
                job = await past.begin(PAIRED, f"pair-{pair}", size)
                await past.reaches(job, 1)
                busy.append((await load.round(size.seconds)).p99_ms)
                await past.cancel(job)
            else:
                idle.append((await load.round(size.seconds)).p99_ms)
    return compared(busy, idle)


def _uuid(job: str) -> UUID:
    return ids.decode(Prefix.JOB, job, "job")


_STORED = "SELECT count(DISTINCT network_id) FROM message WHERE account = $1 AND beside = 1"
_EVENTS = "SELECT body FROM event WHERE account = $1 AND type = 'history.synced'"
