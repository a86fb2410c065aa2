"""Callers that ask for the sessions of their accounts again and again: the client process of one transport.

Moments are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import grpc.aio
import msgspec
import uvloop

from bench.measuring.workers import serve
from sessionmesh.v1 import session_pb2, session_pb2_grpc


class AskingPlan(msgspec.Struct, frozen=True):
    """Whom to call, as whom, which accounts, how many seconds after the question before, and how long a call
    may take. `repeats` says that gRPC may repeat calls by itself, as the route that it was given says."""

    target: str
    key: str
    accounts: list[str]
    every: float
    deadline: float
    repeats: bool


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Ask from now on. Answered with null."""


class End(msgspec.Struct, frozen=True, tag=True):
    """Ask no more. Answered with every `Asked`, once all calls have ended."""


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """One call: `error` is empty when it was answered rightly."""

    account: str
    made: float
    ended: float
    error: str


class Askers:
    """One for each account: it waits for its answer before it asks again."""

    def __init__(self, plan: AskingPlan) -> None:
        self._plan = plan
        options = [("grpc.enable_retries", int(plan.repeats))]
        channel = grpc.aio.insecure_channel(plan.target, options=options)
        self._get = session_pb2_grpc.SessionServiceStub(channel).GetSession
        self._asked: list[Asked] = []
        self._ended = asyncio.Event()
        self._askers: list[asyncio.Task[None]] = []

    async def obey(self, order: Begin | End) -> Sequence[Asked] | None:
        """One order."""
        if isinstance(order, Begin):
            now, plan = time.monotonic(), self._plan
            for place, account in enumerate(plan.accounts):
                first = now + plan.every * place / len(plan.accounts)
                self._askers.append(asyncio.create_task(self._ask(account, first), name=f"ask for {account}"))
            return None
        self._ended.set()
        await asyncio.gather(*self._askers)
        return self._asked

    async def _ask(self, account: str, due: float) -> None:
        while not await self._ends_before(due):
            self._asked.append(await self._call(account))
            due = max(due + self._plan.every, time.monotonic())

    async def _ends_before(self, due: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def _call(self, account: str) -> Asked:
        request = session_pb2.GetSessionRequest(account_id=account)
        metadata = (("authorization", f"Bearer {self._plan.key}"), ("x-account-id", account))
        made, error = time.monotonic(), ""
        try:
            answer = await self._get(request, metadata=metadata, timeout=self._plan.deadline)
            if answer.session.account_id != account:
                error = f"the session of {answer.session.account_id}"
        except grpc.aio.AioRpcError as failure:
            error = f"{failure.code().name}: {failure.details()}"
        return Asked(account, made, time.monotonic(), error)


if __name__ == "__main__":
    uvloop.run(serve(AskingPlan, Begin | End, lambda plan: Askers(plan).obey))
