"""Sidecars and nodes that are killed, one after the other, while accounts write and are answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from bench.mesh.accounts import Customer, phone_of
from bench.mesh.caller_log import CallerLog, quantile, steady_callers
from bench.mesh.conditions import plan
from bench.mesh.operator import NotMeasured, Operator
from bench.mesh.running import RunningMesh
from bench.whatsapp_web.nodes import NODES, Nodes
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import message_pb2

ANSWER = "Thank you for your message."


@dataclass(frozen=True, slots=True)
class Kill:
    """When, of which kind of process, and the numbers of the accounts that it carried."""

    began: float
    is_node: bool
    affected: Sequence[int]


@dataclass(frozen=True, slots=True)
class Survived:
    """What everybody saw in the end; seconds are from a kill to an account's next login."""

    node_seconds: Sequence[float]
    sidecar_seconds: Sequence[float]
    lost: int
    duplicates: int
    unreadable: int
    log: CallerLog
    verdict: simulator_pb2.GetVerdictResponse

    @property
    def takeover_p99(self) -> float:
        return quantile(self.node_seconds, 0.99)

    @property
    def sidecar_back_p99(self) -> float:
        return quantile(self.sidecar_seconds, 0.99)


async def survive(mesh: RunningMesh, nodes: Nodes, customer: Customer, kills: int, rate: float) -> Survived:
    """Half of the kills are of sidecars, in turns over the nodes. Raises `NotMeasured`."""
    async with (
        Operator(mesh, customer.accounts) as operator,
        steady_callers(plan(mesh, customer, rate)) as callers,
    ):
        await operator.until_settled(NODES)
        await operator.answer(ANSWER)
        await callers.begin()
        done = []
        for number in range(kills):
            name = NODES[number // 2 % len(NODES)]
            done.append(await _kill(operator, nodes, customer, name, is_node=number % 2 == 1))
        log, calls = await callers.end()
        undelivered = await operator.until_delivered()
        await operator.answer("")
        await operator.until_received()
        verdict = await operator.verdict(calls)
        connections = await operator.connections()
    messages, events = await _received(mesh)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for kill in done:
        for number in kill.affected:
            login = connections.first_login(phone_of(number), kill.began)
            if login is None:
                raise NotMeasured(f"{phone_of(number)} never logged in again")
            seconds[kill.is_node].append(login - kill.began)
    return Survived(
        seconds[True],
        seconds[False],
        verdict.lost + undelivered + max(0, verdict.inbound - messages),
        verdict.duplicates + events - messages,
        verdict.unreadable,
        log,
        verdict,
    )


async def _kill(operator: Operator, nodes: Nodes, customer: Customer, name: str, *, is_node: bool) -> Kill:
    """And wait until everything is as it was."""
    owned = set(await operator.accounts_of(name))
    affected = [number for number, account in enumerate(customer.accounts) if account in owned]
    if not affected:
        raise NotMeasured(f"{name} has no accounts")
    logins = (await operator.stats()).logins
    began = await (nodes.kill_node(name) if is_node else nodes.kill_sidecar(name))
    await operator.until_logins(logins + len(affected))
    await operator.until_settled(NODES)
    return Kill(began, is_node, affected)


async def _received(mesh: RunningMesh) -> tuple[int, int]:
    """Inbound messages that are stored, each counted once, and the events about them."""
    database: asyncpg.Connection = await asyncpg.connect(mesh.database_url)
    try:
        messages = await database.fetchval(_MESSAGES, message_pb2.DIRECTION_INBOUND)
        return messages, await database.fetchval(_EVENTS)
    finally:
        await database.close()


_MESSAGES = "SELECT count(DISTINCT (account, network_id)) FROM message WHERE direction = $1"
_EVENTS = "SELECT count(*) FROM event WHERE type = 'message.received'"
