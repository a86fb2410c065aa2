"""What callers in an open loop saw: their log, and the process that makes it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from bench.measuring.workers import Worker, worker
from bench.mesh.steady import Begin, Call, End, Probe, SteadyPlan
from bench.mesh.window import Window
from sessionmesh.simulator.v1 import simulator_pb2


class CallerLog:
    """Every call, looked at by when it was made."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls

    def latencies(self, *windows: Window) -> list[float]:
        """Seconds from when a call was due to its answer, of the answered calls due in `windows`."""
        return [
            call.ended - call.due
            for call in self._calls
            if not call.error and any(window.holds(call.due) for window in windows)
        ]

    def failed(self, window: Window) -> list[Call]:
        """Calls under way in the window that failed, then or later."""
        return [
            call
            for call in self._calls
            if call.error and call.made < window.ended and call.ended > window.began
        ]

    def made(self, window: Window) -> int:
        """How many calls were due in the window."""
        return sum(window.holds(call.due) for call in self._calls)

    @property
    def latest(self) -> float:
        """By how many seconds the callers were behind their pace at worst: they, too, need a CPU."""
        return max((call.made - call.due for call in self._calls), default=0.0)


class SteadyCallers:
    """The callers' process."""

    def __init__(self, process: Worker) -> None:
        self._process = process
        self._probes: list[Call] = []

    async def begin(self) -> None:
        """Send at the plan's rate from now on."""
        await self._process.ask(Begin(), type(None))

    async def probe(self, accounts: list[str], deadline: float) -> list[Call]:
        """A message for each of these accounts at once, each until the network has it."""
        calls = await self._process.ask(Probe(accounts, deadline), list[Call])
        self._probes += calls
        return calls

    async def end(self) -> tuple[CallerLog, list[simulator_pb2.CallerRecord]]:
        """The log of the steady calls, and all that callers were told, probes too."""
        calls = await self._process.ask(End(), list[Call])
        return CallerLog(calls), [record(call) for call in [*calls, *self._probes]]


@contextlib.asynccontextmanager
async def steady_callers(
    plan: SteadyPlan, environment: Mapping[str, str] | None = None
) -> AsyncIterator[SteadyCallers]:
    """A process that is ready to send."""
    async with worker("bench.mesh.steady", plan, environment) as process:
        yield SteadyCallers(process)


def quantile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(seconds: Sequence[float]) -> str:
    """A few words about how they lie."""
    return (
        f"{quantile(seconds, 0.5):.2f} s (median), {quantile(seconds, 0.99):.2f} s (p99), "
        f"{max(seconds):.2f} s (longest)"
    )


def reasons(calls: Iterable[Call]) -> str:
    """Why calls failed, the most frequent first."""
    counted = Counter(call.error for call in calls)
    return "; ".join(f"{number} x {error}" for error, number in counted.most_common(5))


def record(call: Call) -> simulator_pb2.CallerRecord:
    """What the network's verdict is told of it."""
    record = simulator_pb2.CallerRecord(
        request_id=call.request_id,
        account=call.account,
        message_id=call.message_id,
        network_message_id=call.network_message_id,
        recipient=call.recipient,
    )
    if call.answered_at:
        record.acknowledge_time.CopyFrom(_timestamp(call.answered_at))
    return record


def _timestamp(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromNanoseconds(int(seconds * 1e9))
    return made
