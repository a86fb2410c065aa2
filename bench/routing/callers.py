"""The load generator: the client process of one transport, the same program for all of them.

It is a stock client (grpc.aio, generated stubs, no option set, none of the mesh's own code) on uvloop. Every
caller sends as soon as it was answered, and looks at each answer: whether it is for its account, and from the
node that owns it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Literal

import grpc.aio
import msgspec
import uvloop

from bench.measuring.workers import serve
from sessionmesh.v1 import content_pb2, message_pb2, message_pb2_grpc

FRAME_ITEMS = 100
_GREETERS = 32
_TEXT = (
    "A message of ordinary length, as people write them to each other when there is something to say, and "
    "not "
    "a word longer than it has to be."
)
_TIMEOUT = 20.0


class TransportPlan(msgspec.Struct, frozen=True):
    """Whom to call, as whom, and for which accounts.

    `targets` has a channel's target for each node, or one named "" for all of them. `owners` has the node of
    each account, or "" where any may answer, if it is always the same.
    """

    targets: dict[str, str]
    key: str
    owners: dict[str, str]


Kind = Literal["unary", "frames"]


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Do what a client does once and not per call: have its routes at hand, build its requests. Answered with
    what was wrong."""

    kind: Kind
    callers: int


class Stretch(msgspec.Struct, frozen=True, tag=True):
    """So many callers for so many seconds, with unary calls or with a stream of frames each. Answered with
    `Called`."""

    kind: Kind
    callers: int
    seconds: float


class Called(msgspec.Struct, frozen=True):
    """What came of it: messages answered, what was wrong with answers, the median of a call or frame."""

    messages: int
    seconds: float
    cpu_seconds: float
    p50_ms: float
    wrong: list[str]

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@dataclass(slots=True)
class _Account:
    """An account as its caller sees it."""

    id: str
    node: str
    send: Any
    request: message_pb2.SendMessageRequest
    metadata: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Frame:
    """A frame, and what its results must name: account, request and node."""

    request: message_pb2.SendMessagesRequest
    results: frozenset[tuple[str, str, str]]


@dataclass(slots=True)
class _Tally:
    """What the callers of a stretch have together."""

    messages: int = 0
    latencies: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Callers:
    """Of one transport."""

    def __init__(self, plan: TransportPlan) -> None:
        self._credentials = (("authorization", f"Bearer {plan.key}"),)
        self._stubs = {
            node: message_pb2_grpc.MessageServiceStub(grpc.aio.insecure_channel(target))
            for node, target in plan.targets.items()
        }
        self._accounts = [self._account(account_id, node) for account_id, node in plan.owners.items()]
        self._turn = cycle(self._accounts)
        self._frames: dict[int, _Frame] = {}

    async def obey(self, order: Prepare | Stretch) -> object:
        """One order."""
        return await (self._prepare(order) if isinstance(order, Prepare) else self._go(order))

    async def _prepare(self, coming: Prepare) -> list[str]:
        if coming.kind == "frames":
            self._frames |= {n: self._frame(n) for n in range(len(self._frames), coming.callers)}
            return []
        tally, accounts = _Tally(), iter(self._accounts)
        await asyncio.gather(*(self._greet(accounts, tally) for _ in range(_GREETERS)))
        return tally.wrong[:3]

    async def _greet(self, accounts: Iterator[_Account], tally: _Tally) -> None:
        """A call for each account."""
        for account in accounts:
            await self._send(account, tally)

    async def _go(self, stretch: Stretch) -> Called:
        tally = _Tally()
        call = self._unary if stretch.kind == "unary" else self._stream
        cpu, began = time.process_time(), time.perf_counter()
        until = began + stretch.seconds
        await asyncio.gather(*(call(number, until, tally) for number in range(stretch.callers)))
        took = time.perf_counter() - began
        latencies = sorted(tally.latencies) or [0.0]
        return Called(
            tally.messages,
            took,
            time.process_time() - cpu,
            latencies[len(latencies) // 2] * 1000,
            tally.wrong[:3],
        )

    async def _unary(self, _number: int, until: float, tally: _Tally) -> None:
        clock, latencies, turn = time.perf_counter, tally.latencies, self._turn
        while (began := clock()) < until:
            if await self._send(next(turn), tally):
                latencies.append(clock() - began)
                tally.messages += 1

    async def _send(self, account: _Account, tally: _Tally) -> bool:
        """Whether the answer was right."""
        try:
            answer = await account.send(account.request, metadata=account.metadata, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            tally.wrong.append(f"{error.code().name}: {error.details()}")
            return False
        message = answer.message
        account.node = account.node or message.network_message_id
        if message.account_id == account.id and message.network_message_id == account.node:
            return True
        tally.wrong.append(f"{message.network_message_id} answered for {account.id} of {account.node}")
        return False

    async def _stream(self, number: int, until: float, tally: _Tally) -> None:
        """One frame after the other, each when the one before has all its results."""
        clock, frame = time.perf_counter, self._frames[number]
        stub = self._stub_of_stream(number)
        call = stub.SendMessages(metadata=self._credentials)
        try:
            while (began := clock()) < until:
                await call.write(frame.request)
                missing = set(frame.results)
                while missing:
                    results = (await call.read()).results
                    named = {(r.account_id, r.request_id, r.message.network_message_id) for r in results}
                    if not named <= missing:
                        tally.wrong.append(f"results that nobody asked for: {sorted(named - missing)[:2]}")
                        return
                    missing -= named
                tally.latencies.append(clock() - began)
                tally.messages += len(frame.results)
            await call.done_writing()
            await call.read()
        except grpc.aio.AioRpcError as error:
            tally.wrong.append(f"{error.code().name}: {error.details()}")

    def _stub_of_stream(self, number: int) -> Any:
        return list(self._stubs.values())[number % len(self._stubs)]

    def _account(self, account_id: str, node: str) -> _Account:
        stub = self._stubs.get(node) or self._stubs[""]
        metadata = (*self._credentials, ("x-account-id", account_id))
        return _Account(account_id, node, stub.SendMessage, _request(account_id, "bench"), metadata)

    def _frame(self, number: int) -> _Frame:
        """Of a hundred accounts that are served by the node of that stream, or by any."""
        node = list(self._stubs)[number % len(self._stubs)]
        served = cycle([account for account in self._accounts if node in ("", account.node)])
        chosen = [next(served) for _ in range(number * FRAME_ITEMS + FRAME_ITEMS)][-FRAME_ITEMS:]
        named = [(account, f"bench-{number}-{place}") for place, account in enumerate(chosen)]
        return _Frame(
            message_pb2.SendMessagesRequest(messages=[_request(account.id, name) for account, name in named]),
            frozenset((account.id, name, account.node) for account, name in named),
        )


def _request(account_id: str, request_id: str) -> message_pb2.SendMessageRequest:
    """Some 200 bytes."""
    return message_pb2.SendMessageRequest(
        account_id=account_id,
        request_id=request_id,
        recipient="phone:+491701234567",
        content=content_pb2.Content(text=content_pb2.TextContent(body=_TEXT)),
    )


if __name__ == "__main__":
    uvloop.run(serve(TransportPlan, Prepare | Stretch, lambda plan: Callers(plan).obey))
