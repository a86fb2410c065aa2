"""Consumers of a subscription come, go, die and acknowledge as they like, at two servers: whatever they do,
each event comes, in its account's order, and never again once it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc.aio
import pytest

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_webhook.subscriptions import consumers
from sessionmesh.v1 import event_pb2 as pb
from tests.support.consuming import create, numbered
from tests.support.eventually import eventually
from tests.support.webhook_world import Client, Tenant, World, client, open_world, service

ACCOUNTS, ROUNDS, CONSUMERS = 12, 25, 4


@pytest.fixture
async def world(postgres_url: str, etcd: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(consumers, "BEAT_SECONDS", 0.02)
    async with open_world(postgres_url, etcd) as made:
        yield made


@dataclass(slots=True)
class Record:
    """What the consumers saw, in the order in which they saw it."""

    seen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The numbers of each account's events, each when it came first."""
    done: set[str] = field(default_factory=set)
    """Events that were acknowledged, and the server said so."""
    repeated: list[str] = field(default_factory=list)
    """Of these, those that came again."""

    def came(self, event: pb.Event) -> None:
        number, seen = int(event.labels["n"]), self.seen[event.account_id]
        if number not in seen:
            seen.append(number)
        if event.id in self.done:
            self.repeated.append(event.id)

    @property
    def count(self) -> int:
        return sum(map(len, self.seen.values()))


class Actor:
    """Consumes, one stream after the other, until it is told to stop."""

    def __init__(self, dice: Random, tenant: Tenant, servers: list[Client], record: Record) -> None:
        self._dice = dice
        self._tenant = tenant
        self._servers = servers
        self._record = record

    async def run(self) -> None:
        while True:
            api = self._dice.choice(self._servers)
            call = api.stream(pb.SubscribeRequest(subscription="orders"))
            try:
                await self._consume(api, call)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise  # many that have left may still be there while the machine is busy
            finally:
                call.cancel()

    async def _consume(self, api: Client, call: Any) -> None:
        """Of each frame all is acknowledged, at once or in two parts; or some or nothing, and then it leaves,
        or is ended.
        """
        consumer = ""
        while True:
            frame = await call.read()
            if frame.HasField("heartbeat"):
                consumer = frame.heartbeat.consumer_id
                continue
            events = list(frame.events.events)
            for event in events:
                self._record.came(event)
            leaves = self._dice.random() < 0.3
            if (some := self._dice.randint(0, len(events))) and (leaves or self._dice.random() < 0.5):
                await self._acknowledge(api, consumer, events[:some])
            if leaves:
                break
            await self._acknowledge(api, consumer, events)
        if self._dice.random() < 0.5:
            await self._tenant.pool.execute(
                "SELECT subscription_leave($1, false, '8 s')",
                ids.decode(Prefix.CONSUMER, consumer, "consumer_id"),
            )

    async def _acknowledge(self, api: Client, consumer: str, events: list[pb.Event]) -> None:
        request = pb.AcknowledgeEventsRequest(name="orders", cursor=events[-1].cursor, consumer_id=consumer)
        try:
            await api.call(api.events.AcknowledgeEvents, request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
        else:
            self._record.done.update(event.id for event in events)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_each_event_comes_in_order_and_not_again_once_it_is_acknowledged(
    world: World, seed: int
) -> None:
    dice, record = Random(seed), Record()
    tenant = await world.tenant()
    async with (
        service(world) as one,
        service(world) as other,
        client(one.address, tenant.api_key) as api,
        client(other.address, tenant.api_key) as api_of_other,
    ):
        await create(api)
        actors = [
            asyncio.create_task(Actor(dice, tenant, [api, api_of_other], record).run(), name=f"consumer {n}")
            for n in range(CONSUMERS)
        ]
        accounts = [ids.new_id(Prefix.ACCOUNT) for _ in range(ACCOUNTS)]
        for number in range(ROUNDS):
            some = [numbered(1, number, account)[0] for account in dice.sample(accounts, ACCOUNTS)]
            await tenant.commit(*some)

        def all_came() -> bool:
            for actor in actors:
                if actor.done():
                    actor.result()
            return record.count == ACCOUNTS * ROUNDS

        try:
            await eventually(all_came)
        finally:
            for actor in actors:
                actor.cancel()
            await asyncio.wait(actors)
    assert record.repeated == []
    assert all(seen == [*range(ROUNDS)] for seen in record.seen.values())
    assert record.done
