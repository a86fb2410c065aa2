"""Whether every message had its whole life: what a figure is worth depends on it."""

from __future__ import annotations

import asyncio

import asyncpg

from bench.mesh.running import RunningMesh
from mesh_core.rpc.channels import open_channel
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import message_pb2

SETTLED_SECONDS = 30.0
_POLL_SECONDS = 0.1
EVENTS = ("message.queued", "message.sent", "message.delivered")


async def until_settled(database: asyncpg.Connection, messages: int) -> None:
    """Return once so many messages have their last event; raises `TimeoutError`."""
    async with asyncio.timeout(SETTLED_SECONDS):
        while await database.fetchval(_DELIVERED) < messages:  # noqa: ASYNC110 - Postgres sets no event
            await asyncio.sleep(_POLL_SECONDS)


async def complaints(mesh: RunningMesh, database: asyncpg.Connection, messages: int) -> list[str]:
    """What is wrong, one sentence each; nothing when all `messages` were sent once and delivered."""
    found = []
    rows = await database.fetch(_STATUSES)
    statuses = {message_pb2.MessageStatus.Name(row["status"]): row["count"] for row in rows}
    if statuses != {"MESSAGE_STATUS_DELIVERED": messages}:
        found.append(f"of {messages} messages Postgres has {statuses}")
    events = {row["type"]: row["count"] for row in await database.fetch(_EVENTS)}
    found += [
        f"{events.get(kind, 0)} events {kind} for {messages} messages"
        for kind in EVENTS
        if events.get(kind) != messages
    ]
    if waiting := await database.fetchval("SELECT count(*) FROM outbox"):
        found.append(f"{waiting} messages are still in the outbox")
    return found + await _verdict(mesh, messages)


async def _verdict(mesh: RunningMesh, messages: int) -> list[str]:
    async with open_channel(mesh.file.address) as channel:
        verdict = await simulator_pb2_grpc.SimulatorServiceStub(channel).GetVerdict(
            simulator_pb2.GetVerdictRequest(),
            metadata=(("authorization", f"Bearer {mesh.file.admin_key}"),),
            timeout=60,
        )
    found = list(verdict.findings)
    if not verdict.clean:
        found.append("the network's ledger is not clean")
    if (verdict.sent, verdict.delivered) != (messages, messages):
        found.append(
            f"the network accepted {verdict.sent} and delivered {verdict.delivered} of {messages} messages"
        )
    return found


_DELIVERED = "SELECT count(*) FROM event WHERE type = 'message.delivered'"
_STATUSES = "SELECT status, count(*) FROM message GROUP BY status"
_EVENTS = "SELECT type, count(*) FROM event WHERE type LIKE 'message.%' GROUP BY type"
