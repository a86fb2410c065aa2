"""The load generator: a process of its own, so that its cost is not the mesh's.

Its first line of input is a `Plan` as JSON; each line after it is a number of seconds, and is answered with a
`Round` as JSON when so long every caller has sent one message after the other.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import count

import msgspec
import uvloop

from mesh_core.rpc.channels import open_channel
from sessionmesh.v1 import content_pb2, message_pb2, message_pb2_grpc

_TEXT = "A message of ordinary length, as people write them to each other when there is something to say."
_TIMEOUT = 20.0


class Plan(msgspec.Struct, frozen=True):
    """Whom to call, as whom, for which accounts, and how many callers there are. `prefix` is of the request
    ids, which must differ from those of other processes; accounts and `recipients` take turns, each in its
    own circle."""

    address: str
    key: str
    accounts: list[str]
    callers: int
    prefix: str = "bench"
    recipients: int = 1000


class Round(msgspec.Struct, frozen=True):
    """`began` is in seconds since 1970, `seconds` until the last answer, the rest per accepted message."""

    messages: int
    errors: list[str]
    began: float
    seconds: float
    cpu_seconds: float
    p50_ms: float
    p99_ms: float


class Load:
    """The callers. Accounts take turns; every message has a request id of its own."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        channel = open_channel(plan.address)
        self._send = message_pb2_grpc.MessageServiceStub(channel).SendMessage
        self._metadata = (("authorization", f"Bearer {plan.key}"),)
        self._serial = count()

    async def run(self, seconds: float) -> Round:
        """One round, as a closed loop."""
        latencies: list[float] = []
        errors: list[str] = []
        began, cpu = time.time(), time.process_time()
        start = time.perf_counter()
        until = start + seconds
        await asyncio.gather(*(self._call(until, latencies, errors) for _ in range(self._plan.callers)))
        took = time.perf_counter() - start
        latencies.sort()
        return Round(
            len(latencies),
            errors[:3],
            began,
            took,
            time.process_time() - cpu,
            latencies[len(latencies) // 2] * 1000,
            latencies[len(latencies) * 99 // 100] * 1000,
        )

    async def _call(self, until: float, latencies: list[float], errors: list[str]) -> None:
        while (began := time.perf_counter()) < until:
            try:
                await self._send(self._request(), metadata=self._metadata, timeout=_TIMEOUT)
            except Exception as error:
                errors.append(repr(error))
                return
            latencies.append(time.perf_counter() - began)

    def _request(self) -> message_pb2.SendMessageRequest:
        number = next(self._serial)
        return message_pb2.SendMessageRequest(
            account_id=self._plan.accounts[number % len(self._plan.accounts)],
            request_id=f"{self._plan.prefix}-{number}",
            recipient=f"phone:+49170{number % self._plan.recipients:07}",
            content=content_pb2.Content(text=content_pb2.TextContent(body=_TEXT)),
        )


async def main() -> None:
    """Serve standard input."""
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    load = Load(msgspec.json.decode(await lines.readline(), type=Plan))
    while line := await lines.readline():
        done = await load.run(float(line))
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
