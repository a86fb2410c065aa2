"""Neighbours that hurt through the webhooks' service."""

from __future__ import annotations

import asyncio

from aiohttp import web

from bench.fairness.attack import TIMEOUT, Attack, Neighbour, a_few_at_once
from bench.fairness.listening import listen
from bench.mesh.steady import Callers, SteadyPlan
from sessionmesh.v1 import webhook_pb2, webhook_pb2_grpc

HOLE = "/hole"


class EndpointAttack(Attack):
    """One with endpoints: those at `HOLE` are not answered while it runs."""

    def __init__(self, neighbour: Neighbour) -> None:
        super().__init__(neighbour)
        self.webhooks = webhook_pb2_grpc.WebhookServiceStub(self.channel)
        self._answering = asyncio.Event()
        self._answering.set()
        self.url = ""

    async def prepare(self) -> None:
        """Begin to listen."""
        self.url = await listen(self._receive)

    async def make(self, number: int, path: str, event_types: tuple[str, ...]) -> list[str]:
        """New endpoints' ids."""
        made = await a_few_at_once(
            number,
            lambda: self.webhooks.CreateEndpoint(
                webhook_pb2.CreateEndpointRequest(
                    request_id=self.unique(),
                    endpoint=webhook_pb2.Endpoint(url=self.url + path, event_types=event_types),
                ),
                metadata=self.metadata,
                timeout=TIMEOUT,
            ),
        )
        return [answer.endpoint.id for answer in made]

    async def run_with_holes(self) -> None:
        """Let nothing at `HOLE` be answered from now on."""
        self._answering.clear()

    async def rest(self) -> None:
        """Answer everything."""
        self._answering.set()

    async def _receive(self, request: web.Request) -> web.Response:
        if request.path == HOLE:
            self.outcomes["held"] += 1
            await self._answering.wait()
        else:
            self.outcomes["webhooks"] += 1
        return web.Response()


class SendingAttack(EndpointAttack):
    """One whose own messages make the events for its endpoints."""

    per_second: float

    def __init__(self, neighbour: Neighbour) -> None:
        super().__init__(neighbour)
        self._runs = 0

    async def run(self) -> None:
        """Send until cancelled."""
        self._runs += 1
        prefix = f"neighbour-{self._runs}"
        neighbour = self.neighbour
        callers = Callers(
            SteadyPlan(
                neighbour.address,
                neighbour.key,
                neighbour.accounts,
                self.per_second,
                TIMEOUT,
                prefix=prefix,
            )
        )
        callers.begin()
        try:
            await asyncio.Event().wait()
        finally:
            calls = await callers.end()
            self.outcomes["messages"] += sum(not call.error for call in calls)


class BlackHoles(SendingAttack):
    """200 endpoints, 20 of which never answer and are told of all events of a message a second: in a stretch
    more than all slots hold.
    """

    per_second = 1.0

    async def prepare(self) -> None:
        await super().prepare()
        await self.make(20, HOLE, ("message.queued", "message.sent", "message.delivered"))
        await self.make(self.scaled(180), "/", ("message.delivered",))

    async def run(self) -> None:
        await self.run_with_holes()
        await super().run()


class ManyEndpoints(SendingAttack):
    """2,400 endpoints that answer, and one event for all of them every four seconds."""

    per_second = 0.25

    async def prepare(self) -> None:
        await super().prepare()
        await self.make(self.scaled(2400), "/", ("message.delivered",))


class EndpointChurn(EndpointAttack):
    """Fifty endpoints, 25 of which are changed in a second."""

    async def prepare(self) -> None:
        await super().prepare()
        self._endpoints = await self.make(50, "/", ())

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._change(number), name="change")
                number += 1
                await asyncio.sleep(began + number / 25 - loop.time())

    async def _change(self, number: int) -> None:
        request = webhook_pb2.UpdateEndpointRequest(
            endpoint_id=self._endpoints[number % len(self._endpoints)]
        )
        request.endpoint.labels["version"] = self.unique()
        request.update_mask.paths.append("labels")
        await self.counted(self.webhooks.UpdateEndpoint(request, metadata=self.metadata, timeout=TIMEOUT))


class EndpointTests(EndpointAttack):
    """600 calls of TestEndpoint at once, for sixty endpoints that do not answer, and again a second later."""

    async def prepare(self) -> None:
        await super().prepare()
        self._endpoints = await self.make(60, HOLE, ("message.failed",))

    async def run(self) -> None:
        await self.run_with_holes()
        while True:
            async with asyncio.TaskGroup() as tasks:
                for number in range(600):
                    tasks.create_task(self._try(number), name="test")
                await asyncio.sleep(1.0)

    async def _try(self, number: int) -> None:
        request = webhook_pb2.TestEndpointRequest(endpoint_id=self._endpoints[number % 60])
        await self.counted(self.webhooks.TestEndpoint(request, metadata=self.metadata, timeout=TIMEOUT))
