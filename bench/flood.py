"""What accounts of other tenants notice while thousands of messages come to one account at once.

The mesh of `mesh up` with two session-nodes, on the simulated network or on the one of WhatsApp's protocol.
The messages wait for the account while it is not connected.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass

import asyncpg
import grpc.aio

from bench.measuring.pairs import PAIRS, compared, median
from bench.measuring.report import Measured, Report
from bench.mesh.accounts import Customer, make_customer, make_linked_customer, phone_of
from bench.mesh.conditions import ENVIRONMENT
from bench.mesh.generator import load_generator
from bench.mesh.load import Plan
from bench.mesh.running import RunningMesh, running_mesh
from bench.whatsapp_web.benchmark import SETTINGS
from bench.whatsapp_web.nodes import NODES
from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.channels import open_channel
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import message_pb2, session_pb2, session_pb2_grpc

PARTS = ("simulated", "whatsapp_web")
OTHERS, CALLERS = 50, 4
_TIMEOUT, _RECEIVED_SECONDS = 60.0, 300.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: the messages of one flood, and the seconds of half a pair."""

    messages: int
    pairs: int
    seconds: float


def run(quick: bool, parts: Collection[str] = PARTS) -> Report:
    """Measure; the figures of a part begin with its name."""
    measured = Measured()
    size = Size(300, 6, 0.4) if quick else Size(1_000, PAIRS, 2.0)
    for part in PARTS:
        if part in parts:
            load = os.getloadavg()[0]
            found = asyncio.run(_measure(part, size))
            about = f"{part}: load average of the machine before: {load:.1f}."
            measured = measured.with_more(found).with_more(Measured(notes=(about,)))
    about = f"{len(NODES)} session-nodes, {OTHERS} accounts of another tenant, {CALLERS} callers."
    return Report("flood", dict(measured.figures), notes=(*measured.notes, about))


async def _measure(driver: str, size: Size) -> Measured:
    async with (
        running_mesh(len(NODES), ENVIRONMENT | SETTINGS, driver) as mesh,
        open_channel(mesh.file.address) as channel,
    ):
        others, flooded = await _customers(mesh, driver)
        database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
        flood = _Flood(mesh, flooded, channel, database)
        quiet: list[float] = []
        loud: list[float] = []
        try:
            async with load_generator(Plan(mesh.file.address, others.key, others.accounts, CALLERS)) as load:
                await load.round(size.seconds)
                for _ in range(size.pairs):
                    await flood.gathers(size.messages)
                    quiet.append((await load.round(size.seconds)).p99_ms)
                    await flood.breaks()
                    loud.append((await load.round(size.seconds)).p99_ms)
                    await flood.ends()
        finally:
            await database.close()
    ratio = compared(loud, quiet)
    figures = {"others_p99_ratio": ratio.value, "others_p99_ms_quiet": median(quiet).value}
    notes = (
        f"{driver}: p99 of others' sends while {size.messages:,} messages come at once to another tenant's "
        f"account over without, in {size.pairs} pairs of {size.seconds:g} s: {ratio}.",
    )
    return Measured({f"{driver}_{name}": value for name, value in figures.items()}, notes)


async def _customers(mesh: RunningMesh, driver: str) -> tuple[Customer, Customer]:
    address, key = mesh.file.address, mesh.file.admin_key
    if driver == "simulated":
        return (
            await make_customer(address, key, OTHERS, name="others", first=1),
            await make_customer(address, key, 1, name="flooded"),
        )
    others = await make_linked_customer(address, key, OTHERS, name="others", first=1)
    return others, await make_linked_customer(address, key, 1, name="flooded")


class _Flood:
    """Messages that wait for an account, and come at once."""

    def __init__(
        self, mesh: RunningMesh, customer: Customer, channel: grpc.aio.Channel, database: asyncpg.Connection
    ) -> None:
        (self._account,) = customer.accounts
        self._database = database
        self._metadata = (("authorization", f"Bearer {customer.key}"),)
        self._operator = (("authorization", f"Bearer {mesh.file.admin_key}"),)
        self._network = simulator_pb2_grpc.SimulatorServiceStub(channel)
        self._sessions = session_pb2_grpc.SessionServiceStub(channel)
        self._written = 0

    async def gathers(self, messages: int) -> None:
        """The account is not connected, and is written to."""
        request = session_pb2.DisconnectRequest(account_id=self._account)
        await self._sessions.Disconnect(request, metadata=self._metadata, timeout=_TIMEOUT)
        room = asyncio.Semaphore(16)

        async def write(number: int) -> None:
            async with room:
                injected = simulator_pb2.InjectMessageRequest(
                    phone=phone_of(0), sender=f"phone:+49170{number % 50:07}", text=f"message {number}"
                )
                await self._network.InjectMessage(injected, metadata=self._operator, timeout=_TIMEOUT)

        await asyncio.gather(*map(write, range(messages)))
        self._written += messages

    async def breaks(self) -> None:
        """The account connects."""
        request = session_pb2.ConnectRequest(account_id=self._account)
        await self._sessions.Connect(request, metadata=self._metadata, timeout=_TIMEOUT)

    async def ends(self) -> None:
        """Return once all of it is stored. Raises `TimeoutError`."""
        account = ids.decode(Prefix.ACCOUNT, self._account, "account")
        async with asyncio.timeout(_RECEIVED_SECONDS):
            while await self._database.fetchval(_RECEIVED, account, _IN) < self._written:  # noqa: ASYNC110 - elsewhere
                await asyncio.sleep(0.1)


_RECEIVED = "SELECT count(*) FROM message WHERE account = $1 AND direction = $2"
_IN = message_pb2.DIRECTION_INBOUND
