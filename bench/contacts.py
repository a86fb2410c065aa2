"""Number checks of a list with repeats, through the router of a whole mesh: how many it knows, how fast.

A list of `NUMBERS` numbers, each `TIMES` times and shuffled, is checked by an account in batches of 100, as
`mesh contact check` does. A check is a hit when the network was asked before its call began. Then numbers
that are known are checked one in a call, by one caller.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

from bench.measuring.report import Report
from bench.mesh.accounts import make_customer
from bench.mesh.running import running_mesh
from mesh_core.rpc.channels import open_channel
from sessionmesh.v1 import contact_pb2, contact_pb2_grpc

NUMBERS, TIMES, BATCH = 1_000, 8, 100
"""Of the list; quick: a quarter of the numbers."""
_ENVIRONMENT = {
    "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
    "MESH_SESSION_ACTS_PER_MINUTE": "100000",
    "MESH_SESSION_ACTS_PER_HOUR": "1000000",
}
_TIMEOUT = 30.0


def run(quick: bool) -> Report:
    """Measure. `check_hit_rate` is a share of the list, `check_hit_ms_p50` and `_p99` are of a call."""
    numbers = NUMBERS // 4 if quick else NUMBERS
    return asyncio.run(_measure(numbers, 500 if quick else 2_000))


async def _measure(numbers: int, calls: int) -> Report:
    chosen = random.Random(20)
    listed = [f"+49152{number:07}" for number in range(numbers)] * TIMES
    chosen.shuffle(listed)
    async with running_mesh(1, _ENVIRONMENT) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, 1)
        async with open_channel(mesh.file.address) as channel:
            asking = _Asking(channel, customer.key, customer.accounts[0])
            begun = time.monotonic()
            hits = 0
            left = iter(listed)
            while batch := [*islice(left, BATCH)]:
                hits += await asking.hits(batch)
            seconds = time.monotonic() - begun
            for _ in range(20):
                await asking.hits([chosen.choice(listed)])
            took: list[float] = []
            for _ in range(calls):
                called = time.perf_counter()
                if not await asking.hits([chosen.choice(listed)]):
                    raise SystemExit("a number that was checked before is not known")
                took.append((time.perf_counter() - called) * 1000)
    return Report(
        "contacts",
        {
            "check_hit_rate": hits / len(listed),
            "check_hit_ms_p50": statistics.median(took),
            "check_hit_ms_p99": statistics.quantiles(took, n=100)[98],
            "checks_per_s": len(listed) / seconds,
        },
        notes=(
            f"A list of {len(listed):,}: {numbers:,} numbers, each {TIMES} times, in a random order, in "
            f"batches of {BATCH}; of a number that is twice in its first batch neither is a hit.",
            f"{calls:,} calls of one number that is known, one after the other, through the router.",
        ),
    )


class _Asking:
    """An account that checks numbers."""

    def __init__(self, channel: Any, key: str, account_id: str) -> None:
        self._stub: Any = contact_pb2_grpc.ContactServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._account_id = account_id

    async def hits(self, phones: Sequence[str]) -> int:
        """Check numbers; how many the mesh knew."""
        began = time.time()
        request = contact_pb2.CheckNumbersRequest(account_id=self._account_id, phones=phones)
        answer = await self._stub.CheckNumbers(request, metadata=self._metadata, timeout=_TIMEOUT)
        return sum(one.check_time.ToNanoseconds() / 1e9 < began for one in answer.checks)
