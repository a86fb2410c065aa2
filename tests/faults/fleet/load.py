"""Callers that send without a pause, repeat what was not answered, and keep a log of what they were told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, message_pb2
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, text_message

RECOVERY_SECONDS = 60.0
TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN}
"""What a caller repeats; UNKNOWN is how gRPC reports some closed connections."""


@dataclass(slots=True)
class Load:
    """Sends from every account, one after the other, `pause` seconds apart."""

    caller: Caller
    accounts: list[account_pb2.Account]
    pause: float = 0.1
    call_seconds: float = 30.0
    log: list[simulator_pb2.CallerRecord] = field(default_factory=list)
    acknowledged: dict[tuple[str, str], str] = field(default_factory=dict)
    """The message of each account and request id."""
    longest_wait: float = 0.0
    """Seconds from the first attempt to the answer, of the request that waited longest."""
    _numbers: Counter[str] = field(default_factory=Counter)
    _answered: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The load runs inside; each account ends with the request it is at."""
        async with asyncio.TaskGroup() as senders:
            tasks = [senders.create_task(self._send_steadily(account)) for account in self.accounts]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def until_more(self, count: int, accounts: Iterable[str] | None = None) -> None:
        """Wait until each of `accounts` (all) has sent `count` more messages."""
        wanted = [account.id for account in self.accounts] if accounts is None else list(accounts)
        before = self.counts()

        async def more() -> bool:
            now = self.counts()
            return all(now[account] - before[account] >= count for account in wanted)

        await eventually(more, RECOVERY_SECONDS, f"{count} more messages from every account")

    async def keep_going(self, seconds: float) -> None:
        """Let so much time pass, in which every account must get answers."""
        before, until = self.counts(), time.monotonic() + seconds
        await eventually(lambda: time.monotonic() > until, seconds + 1, f"the passing of {seconds} s")
        now = self.counts()
        assert all(now[account.id] > before[account.id] for account in self.accounts), "no answers meanwhile"

    def counts(self) -> dict[str, int]:
        """Answered requests of each account."""
        return {account.id: self._answered[account.id] for account in self.accounts}

    def messages(self, account_id: str) -> set[str]:
        """The account's acknowledged messages."""
        return {message for (account, _), message in self.acknowledged.items() if account == account_id}

    async def _send_steadily(self, account: account_pb2.Account) -> None:
        """Never returns. A request that failed is sent again, the same, until it is answered."""
        while True:
            self._numbers[account.id] += 1
            request_id = f"{account.id}-{self._numbers[account.id]}"
            began = time.monotonic()
            await self._send(text_message(account.id, f"Text {request_id}", request_id=request_id))
            self.longest_wait = max(self.longest_wait, time.monotonic() - began)
            await asyncio.sleep(self.pause)

    async def _send(self, request: message_pb2.SendMessageRequest) -> None:
        caller = self.caller
        while True:
            record = simulator_pb2.CallerRecord(
                request_id=request.request_id, account=request.account_id, recipient=request.recipient
            )
            self.log.append(record)
            try:
                answer = await caller(caller.messages.SendMessage, request, timeout=self.call_seconds)
            except grpc.aio.AioRpcError as error:
                if error.code() not in TRANSIENT:
                    raise
                await asyncio.sleep(self.pause)
                continue
            record.message_id = answer.message.id
            record.network_message_id = answer.message.network_message_id
            record.acknowledge_time.CopyFrom(_now())
            self.acknowledged[request.account_id, request.request_id] = answer.message.id
            self._answered[request.account_id] += 1
            return


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
