"""Callers in an open loop: a process of its own, so that its cost is not the mesh's.

Its first line of input is a `SteadyPlan` as JSON, each line after it a `Begin`, `Probe` or `End`, answered by
one line of JSON each. Messages go out at even intervals, whatever became of those before them; a call that
failed is not repeated. Moments are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import count

import grpc.aio
import msgspec
import uvloop

import mesh_core  # noqa: F401 - chooses gRPC's poller, as every part of the mesh does
from bench.measuring.workers import serve
from sessionmesh.v1 import content_pb2, message_pb2, message_pb2_grpc

_TEXT = "A message of ordinary length, as people write them to each other when there is something to say"
_RECIPIENTS = 1000


class SteadyPlan(msgspec.Struct, frozen=True):
    """Whom to call, as whom, for which accounts, how often, and how long a call may take.

    `repeats` says that gRPC may repeat calls by itself, as the route that it was given says. `prefix` is of
    the request ids, which must differ from those of other processes.
    """

    address: str
    key: str
    accounts: list[str]
    per_second: float
    deadline: float
    repeats: bool = False
    prefix: str = "bench"


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Send from now on. Answered with null."""


class Probe(msgspec.Struct, frozen=True, tag=True):
    """One message for each of these accounts, all at once, each until the network has it. Answered with the
    `Call`s in that order."""

    accounts: list[str]
    deadline: float


class End(msgspec.Struct, frozen=True, tag=True):
    """Send no more. Answered, once all calls have ended, with every `Call` but the probes."""


Command = Begin | Probe | End


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call. `due` is when it was to be made, `made` when it was; `error` is empty for an answered one.

    `answered_at` is in seconds since 1970, 0 for a call that failed.
    """

    account: str
    request_id: str
    recipient: str
    due: float
    made: float
    ended: float
    error: str
    message_id: str
    network_message_id: str
    answered_at: float


class Callers:
    """Accounts take turns; every message has a request id and a text of its own."""

    def __init__(self, plan: SteadyPlan) -> None:
        self._plan = plan
        options = [("grpc.enable_retries", int(plan.repeats))]
        channel = grpc.aio.insecure_channel(plan.address, options=options)
        self._send = message_pb2_grpc.MessageServiceStub(channel).SendMessage
        self._credentials = (("authorization", f"Bearer {plan.key}"),)
        self._serial = count()
        self._calls: list[Call] = []
        self._running: set[asyncio.Task[None]] = set()
        self._pace: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Send at the plan's rate."""
        self._pace = asyncio.create_task(self._keep_pace(), name="pace")

    async def probe(self, probe: Probe) -> list[Call]:
        """All at once."""
        now, wait = time.monotonic(), message_pb2.WAIT_FOR_SENT
        calls = (self._call(account, now, probe.deadline, wait) for account in probe.accounts)
        return await asyncio.gather(*calls)

    async def end(self) -> list[Call]:
        """Every call of the pace."""
        if self._pace is not None:
            self._pace.cancel()
            await asyncio.wait([self._pace])
        await asyncio.gather(*self._running)
        return self._calls

    async def _keep_pace(self) -> None:
        began = time.monotonic()
        for number in count():
            due = began + number / self._plan.per_second
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            account = self._plan.accounts[number % len(self._plan.accounts)]
            task = asyncio.create_task(self._log(account, due), name="call")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _log(self, account: str, due: float) -> None:
        self._calls.append(await self._call(account, due, self._plan.deadline, message_pb2.WAIT_FOR_QUEUED))

    async def _call(
        self, account: str, due: float, deadline: float, wait: message_pb2.WaitFor.ValueType
    ) -> Call:
        number = next(self._serial)
        request = message_pb2.SendMessageRequest(
            account_id=account,
            request_id=f"{self._plan.prefix}-{number}",
            recipient=f"phone:+49170{number % _RECIPIENTS:07}",
            content=content_pb2.Content(
                text=content_pb2.TextContent(body=f"{_TEXT} ({self._plan.prefix} {number}).")
            ),
            wait_for=wait,
        )
        metadata = (*self._credentials, ("x-account-id", account))
        made = time.monotonic()
        error, message, answered_at = "", message_pb2.Message(), 0.0
        try:
            answer = await self._send(request, metadata=metadata, timeout=deadline)
            message, answered_at = answer.message, time.time()
        except grpc.aio.AioRpcError as failure:
            error = f"{failure.code().name}: {failure.details()}"
        return Call(
            account,
            request.request_id,
            request.recipient,
            due,
            made,
            time.monotonic(),
            error,
            message.id,
            message.network_message_id,
            answered_at,
        )


def _obey(plan: SteadyPlan) -> Callable[[Command], Awaitable[Iterable[Call] | None]]:
    callers = Callers(plan)

    async def obey(command: Command) -> Iterable[Call] | None:
        match command:
            case Begin():
                callers.begin()
                return None
            case Probe():
                return await callers.probe(command)
            case End():
                return await callers.end()

    return obey


if __name__ == "__main__":
    uvloop.run(serve(SteadyPlan, Command, _obey))
