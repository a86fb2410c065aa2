"""What callers notice when the owner of their accounts is killed: on xDS, and through the router.

The mesh of `mesh up` with three session-nodes. Over each transport one process sends messages from all
accounts at an even pace, and another asks for the sessions of some accounts of the node that is to be killed,
each often: the longest time between two answers is the account's gap.
"""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise

from bench.measuring.workers import Worker, worker
from bench.mesh.accounts import Customer, make_customer
from bench.mesh.caller_log import CallerLog, SteadyCallers, quantile, steady_callers
from bench.mesh.conditions import CALL_SECONDS, ENVIRONMENT
from bench.mesh.operator import Operator
from bench.mesh.running import RunningMesh, running_mesh
from bench.mesh.steady import SteadyPlan
from bench.mesh.window import Window, stretch
from bench.routing.asking import Asked, AskingPlan, Begin, End
from bench.routing.world import xds_environment
from sessionmesh.simulator.v1 import simulator_pb2

NODES = ("node-1", "node-2", "node-3")
KILLED = NODES[0]
TRANSPORTS = ("xds", "plain")


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: accounts, messages a second over each transport, accounts that are asked about and
    how many seconds apart, and seconds of calm before and of looking on after.
    """

    accounts: int
    per_second: float
    asked: int
    every: float
    calm: float
    after: float


@dataclass(frozen=True, slots=True)
class TransportSeen:
    """What the callers of one transport saw; `asked` is about accounts that the killed node had owned."""

    log: CallerLog
    asked: list[Asked]

    def failed(self, window: Window) -> list[str]:
        """Why calls under way in the window failed, one reason each."""
        asked = [a.error for a in self.asked if a.error and a.made < window.ended and a.ended > window.began]
        return [call.error for call in self.log.failed(window)] + asked

    def made(self, window: Window) -> int:
        """How many calls began in the window."""
        return self.log.made(window) + sum(window.holds(asked.made) for asked in self.asked)

    def gaps(self, window: Window) -> list[float]:
        """Of each account asked about, the longest time without an answer that had to do with the window."""
        answers: defaultdict[str, list[float]] = defaultdict(list)
        for asked in self.asked:
            if not asked.error:
                answers[asked.account].append(asked.ended)
        return [_longest(moments, window) for moments in answers.values()]


@dataclass(frozen=True, slots=True)
class OwnerKilled:
    """What came of it. `window` begins with the kill, and the node is started again in it."""

    affected: int
    calm: Window
    window: Window
    transports: Mapping[str, TransportSeen]
    verdict: simulator_pb2.GetVerdictResponse
    undelivered: int
    size: Size

    def figures(self) -> dict[str, float]:
        """By name."""
        figures: dict[str, float] = {}
        for transport, seen in self.transports.items():
            figures[f"{transport}_failed_calls_owner_killed"] = len(seen.failed(self.window))
            figures[f"{transport}_gap_s_owner_killed"] = max(seen.gaps(self.window))
        return figures

    def notes(self) -> tuple[str, ...]:
        """Sentences."""
        size, verdict = self.size, self.verdict
        return (
            f"Owner killed (SIGKILL of one of {len(NODES)} session-nodes, with {self.affected} of "
            f"{size.accounts} accounts): over each transport {size.per_second:.0f} messages a second from "
            f"all accounts, and a question {1 / size.every:.0f} times a second about each of {size.asked} "
            f"accounts of that node; looked on for {self.window.seconds:.0f} s.",
            *(self._note(transport, seen) for transport, seen in self.transports.items()),
            f"Network: {verdict.sent:,} messages accepted, {verdict.delivered:,} delivered, {verdict.lost} "
            f"lost, {verdict.duplicates} duplicates, {verdict.overlaps} overlaps; {self.undelivered} stored "
            "messages were not delivered in the end.",
        )

    def _note(self, transport: str, seen: TransportSeen) -> str:
        gaps, calm = seen.gaps(self.window), seen.gaps(self.calm)
        failed = seen.failed(self.window)
        return (
            f"{transport}: {len(failed)} of {seen.made(self.window):,} calls "
            f"failed{': ' + _counted(failed) if failed else ''}; longest time between two answers, by "
            f"account: {quantile(gaps, 0.5):.2f} s (median), {quantile(gaps, 0.99):.2f} s (p99), "
            f"{max(gaps):.2f} s (longest); before the kill {max(calm):.2f} s (longest). Messages "
            f"{quantile(seen.log.latencies(self.calm), 0.99) * 1000:.0f} ms (p99) before, and "
            f"{max(seen.log.latencies(self.window)):.2f} s (longest) after it."
        )


async def measure(size: Size) -> OwnerKilled:
    """Raises `NotMeasured` when a condition never came."""
    async with running_mesh(len(NODES), ENVIRONMENT) as mesh:
        customer = await make_customer(mesh.file.address, mesh.file.admin_key, size.accounts)
        async with Operator(mesh, customer.accounts) as operator, AsyncExitStack() as stack:
            await operator.until_connected(NODES)
            affected = await operator.accounts_of(KILLED)
            transports = await _callers(stack, mesh, customer, affected[: size.asked], size)
            for steady, askers in transports.values():
                await steady.begin()
                await askers.ask(Begin(), type(None))
            await stretch(size.calm)  # routes are learnt, connections made
            calm = await stretch(size.calm)
            affected = await operator.accounts_of(KILLED)
            os.kill(mesh.file.parts[KILLED].pid, signal.SIGKILL)
            window = await stretch(size.after)
            await operator.until_connected(NODES)
            seen, calls = {}, []
            for transport, (steady, askers) in transports.items():
                log, told = await steady.end()
                calls += told
                asked = await askers.ask(End(), list[Asked])
                seen[transport] = TransportSeen(log, [one for one in asked if one.account in affected])
            undelivered = await operator.until_delivered()
            verdict = await operator.verdict(calls)
            return OwnerKilled(len(affected), calm, window, seen, verdict, undelivered, size)


async def _callers(
    stack: AsyncExitStack, mesh: RunningMesh, customer: Customer, asked: list[str], size: Size
) -> dict[str, tuple[SteadyCallers, Worker]]:
    router = mesh.file.address
    on_xds = {**await xds_environment(router), "GRPC_EXPERIMENTS": ""}
    callers = {}
    for transport, target, environment in (("xds", "xds:///sessionmesh", on_xds), ("plain", router, {})):
        repeats = transport == "xds"
        sends = SteadyPlan(
            target, customer.key, customer.accounts, size.per_second, CALL_SECONDS, repeats, transport
        )
        asks = AskingPlan(target, customer.key, asked, size.every, CALL_SECONDS, repeats)
        steady = await stack.enter_async_context(steady_callers(sends, environment))
        askers = await stack.enter_async_context(worker("bench.routing.asking", asks, environment))
        callers[transport] = steady, askers
    return callers


def _longest(answers: Iterable[float], window: Window) -> float:
    """The longest time between two answers of which the second came in the window."""
    return max(
        (after - before for before, after in pairwise(answers) if window.holds(after)), default=window.seconds
    )


def _counted(reasons: Iterable[str]) -> str:
    return "; ".join(f"{number} x {reason}" for reason, number in Counter(reasons).most_common(5))
