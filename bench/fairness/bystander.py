"""The tenant that is measured: even sends and reads, and an endpoint that answers. A process of its own.

Its first line of input is a `SteadyPlan` as JSON, each line after it a `Listen`, `Begin` or `End`. Moments
are of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import datetime
from itertools import count

import grpc.aio
import msgspec
import uvloop
from aiohttp import web

from bench.fairness.listening import listen
from bench.measuring.workers import serve
from bench.mesh.steady import Call, Callers, SteadyPlan
from bench.mesh.window import monotonic_of
from sessionmesh.v1 import account_pb2, account_pb2_grpc, session_pb2, session_pb2_grpc

QUEUED, DELIVERED = EVENT_TYPES = ("message.queued", "message.delivered")
"""Of each message, and of nothing else, the endpoint is told."""
LAST_SECONDS = 60.0
"""How long the last webhooks may take."""


class Listen(msgspec.Struct, frozen=True, tag=True):
    """Answered with the endpoint's URL."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Send and read from now on. Answered with null."""


class End(msgspec.Struct, frozen=True, tag=True):
    """Answered with `Noticed` once all calls have ended, and every webhook has come or had time to."""


class Read(msgspec.Struct, frozen=True, array_like=True):
    """A call of GetAccount or GetSession; `error` is empty for an answered one."""

    due: float
    ended: float
    error: str


class Hook(msgspec.Struct, frozen=True, array_like=True):
    """The first arrival of an event, and when that was committed."""

    message_id: str
    type: str
    committed: float
    arrived: float


class Noticed(msgspec.Struct, frozen=True):
    """All that came back."""

    sends: list[Call]
    reads: list[Read]
    hooks: list[Hook]


class _Message(msgspec.Struct):
    id: str


class _MessageEvent(msgspec.Struct):
    message: _Message


class _StatusEvent(msgspec.Struct):
    message_id: str


class _Event(msgspec.Struct):
    type: str
    commit_time: datetime
    message: _MessageEvent | None = None
    message_status: _StatusEvent | None = None


class Bystander:
    """Sends and reads at the plan's rate each."""

    def __init__(self, plan: SteadyPlan) -> None:
        self._plan = plan
        self._callers = Callers(plan)
        channel = grpc.aio.insecure_channel(plan.address, options=[("grpc.enable_retries", 0)])
        self._accounts = account_pb2_grpc.AccountServiceStub(channel)
        self._sessions = session_pb2_grpc.SessionServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {plan.key}"),)
        self._reads: list[Read] = []
        self._hooks: dict[tuple[str, str], Hook] = {}
        self._missing: set[tuple[str, str]] = set()
        self._ended = False
        self._complete = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._pace: asyncio.Task[None] | None = None

    async def obey(self, order: Listen | Begin | End) -> str | Noticed | None:
        """One order."""
        match order:
            case Listen():
                return await listen(self._arrived)
            case Begin():
                self._callers.begin()
                self._pace = asyncio.create_task(self._keep_reading(), name="reads")
                return None
            case End():
                return await self._end()

    async def _end(self) -> Noticed:
        sends = await self._callers.end()
        if self._pace is not None:
            self._pace.cancel()
        await asyncio.gather(*self._running)
        self._missing = {
            (call.message_id, kind) for call in sends if not call.error for kind in EVENT_TYPES
        } - self._hooks.keys()
        self._ended = True
        self._check_complete()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._complete.wait()
        return Noticed(sends, self._reads, [*self._hooks.values()])

    async def _keep_reading(self) -> None:
        began = time.monotonic()
        for number in count():
            due = began + number / self._plan.per_second
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            task = asyncio.create_task(self._read(number, due), name="read")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _read(self, number: int, due: float) -> None:
        """By turns of what the router answers, and of what the account's owner does."""
        account = self._plan.accounts[number // 2 % len(self._plan.accounts)]
        error = ""
        try:
            if number % 2:
                await self._accounts.GetAccount(
                    account_pb2.GetAccountRequest(account_id=account),
                    metadata=self._metadata,
                    timeout=self._plan.deadline,
                )
            else:
                await self._sessions.GetSession(
                    session_pb2.GetSessionRequest(account_id=account),
                    metadata=self._metadata,
                    timeout=self._plan.deadline,
                )
        except grpc.aio.AioRpcError as failure:
            error = f"{failure.code().name}: {failure.details()}"
        self._reads.append(Read(due, time.monotonic(), error))

    async def _arrived(self, request: web.Request) -> web.Response:
        arrived = time.monotonic()
        event = msgspec.json.decode(await request.read(), type=_Event)
        if event.message is not None:
            message_id = event.message.message.id
        else:
            assert event.message_status is not None
            message_id = event.message_status.message_id
        committed = monotonic_of(int(event.commit_time.timestamp() * 1e9))
        key = message_id, event.type
        self._hooks.setdefault(key, Hook(*key, committed, arrived))
        self._missing.discard(key)
        self._check_complete()
        return web.Response()

    def _check_complete(self) -> None:
        if self._ended and not self._missing:
            self._complete.set()


if __name__ == "__main__":
    uvloop.run(serve(SteadyPlan, Listen | Begin | End, lambda plan: Bystander(plan).obey))
