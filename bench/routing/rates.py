"""What a transport costs: calls to nodes that only echo, by transports that take turns."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from bench.measuring.pairs import PAIRS, Median, compared, median
from bench.measuring.processes import cpu_seconds, pss_kb
from bench.measuring.workers import Worker, worker
from bench.mesh.metrics import calls_served
from bench.routing import nginx
from bench.routing.callers import FRAME_ITEMS, Called, Kind, Prepare, Stretch, TransportPlan
from bench.routing.world import RoutingWorld, accounts_of, xds_environment

CALLERS = (1, 32)
NODES = ("node-1", "node-2")
BULK_CALLERS = 32
LEAST_SHOWN = 0.5
"""Microseconds per message, below which a process is not named."""
TRANSPORTS: Mapping[Kind, tuple[str, ...]] = {
    "unary": ("direct", "xds", "router", "nginx"),
    "frames": ("direct", "xds", "router"),  # nginx cannot split a frame by owner
}
Processes = dict[str, list[int]]
"""Those on the way by what they are."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure: seconds of each turn, and accounts."""

    seconds: float
    accounts: int


@dataclass(slots=True)
class Turns:
    """What came of the turns of one transport with one kind of calls and one number of callers."""

    called: list[Called] = field(default_factory=list)
    cpu: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def rates(self) -> list[float]:
        """Messages a second."""
        return [called.rate for called in self.called]

    @property
    def p50s(self) -> list[float]:
        """Milliseconds that half of the calls took at most."""
        return [called.p50_ms for called in self.called]

    @property
    def cpu_us(self) -> dict[str, float]:
        """Microseconds of CPU per message, by process."""
        messages = sum(called.messages for called in self.called)
        return {name: seconds / messages * 1e6 for name, seconds in self.cpu.items()}


@dataclass(frozen=True, slots=True)
class Rates:
    """The turns by kind, callers and transport, and memory in kB by process."""

    turns: Mapping[tuple[Kind, int, str], Turns]
    pss_kb: Mapping[str, float]

    def figures(self) -> dict[str, float]:
        """By name."""
        figures = {}
        for kind, callers, transport in self.turns:
            if transport != "direct":
                frames = "frames_" if kind == "frames" else ""
                figures[f"{transport}_over_direct_{frames}rate_{callers}"] = self._ratio(
                    kind, callers, transport
                ).value
                if (kind, callers) == ("unary", 1):
                    figures[f"{transport}_added_p50_ms_1"] = self._added(transport).value
        bulk = self.turns["frames", BULK_CALLERS, "router"]
        return {**figures, "router_bulk_messages_per_second": median(bulk.rates).value}

    def notes(self) -> tuple[str, ...]:
        """A table, and sentences."""
        notes = [
            self._table(),
            f"{PAIRS} turns of each transport with each kind of call. Rates and latencies are medians of the "
            "turns, ratios medians of pairs with their 95 % interval; CPU is user and system time, the "
            "nodes' together.",
            "Every answer was looked at: each came from the account's owner (by nginx, from one node for "
            "each account), and no unary call on xDS came to the router.",
            f"A frame has {FRAME_ITEMS} messages, of accounts of all {len(NODES)} nodes (direct: of one), "
            "and its caller waits for all results; on xDS, too, the router splits it.",
        ]
        memory = ", ".join(f"{name} {kb:,.0f} kB" for name, kb in self.pss_kb.items())
        notes.append(f"Memory (PSS) afterwards: {memory}.")
        if "nginx" not in self.pss_kb:
            notes.append(
                "NGINX WAS NOT MEASURED, its figures are missing: there is no such program (nginx-light)."
            )
        return tuple(notes)

    def _ratio(self, kind: Kind, callers: int, transport: str) -> Median:
        return compared(self.turns[kind, callers, transport].rates, self.turns[kind, callers, "direct"].rates)

    def _added(self, transport: str) -> Median:
        """Milliseconds that the transport adds to the median call of one caller."""
        ones, others = self.turns["unary", 1, transport].p50s, self.turns["unary", 1, "direct"].p50s
        return compared(ones, others, lambda one, other: one - other)

    def _table(self) -> str:
        lines = [f"{'':20}{'messages/s':>11}{'p50 ms':>9}  over direct             CPU us per message"]
        for (kind, callers, transport), turns in self.turns.items():
            ratio = "" if transport == "direct" else str(self._ratio(kind, callers, transport))
            used = ", ".join(f"{name} {us:.1f}" for name, us in turns.cpu_us.items() if us >= LEAST_SHOWN)
            lines.append(
                f"{kind:7}{callers:3} "
                f"{transport:9}{median(turns.rates).value:>11,.0f}{median(turns.p50s).value:>9.2f}  "
                f"{ratio:24}{used}"
            )
        added = (
            f"{transport} {self._added(transport)}"
            for transport in TRANSPORTS["unary"][1:]
            if ("unary", 1, transport) in self.turns
        )
        return "\n".join([*lines, f"Added to the median call of one caller, ms: {', '.join(added)}"])


class NotSane(Exception):
    """An answer was wrong, or came by another way than it should: there is nothing to tell."""


async def measure(world: RoutingWorld, size: Size) -> Rates:
    """Every transport, 20 times with each kind of calls and number of callers. Raises `NotSane`."""
    async with _transports(world, size.accounts) as (clients, processes):
        turns: defaultdict[tuple[Kind, int, str], Turns] = defaultdict(Turns)
        for kind, transports in TRANSPORTS.items():
            present = [transport for transport in transports if transport in clients]
            for callers in CALLERS:
                stretch = Stretch(kind, callers, size.seconds)
                for turn in range(PAIRS):
                    for transport in _order(present, turn):
                        await _turn(
                            world,
                            clients[transport],
                            transport,
                            stretch,
                            processes,
                            turns[kind, callers, transport],
                        )
        memory = {name: sum(map(pss_kb, pids)) for name, pids in processes.items()}
    return Rates(turns, memory)


@contextlib.asynccontextmanager
async def _transports(
    world: RoutingWorld, accounts: int
) -> AsyncIterator[tuple[dict[str, Worker], Processes]]:
    """The client of each transport, and the processes on the way. They idle while it is not their turn."""
    nodes = await world.echoes(NODES)
    key, owners = await world.tenant_key(), accounts_of(nodes, accounts)
    module = "bench.routing.callers"
    direct = {node.name: node.address for node in nodes}
    processes = {"router": [world.router.pid], "nodes": [node.child.pid for node in nodes]}
    async with contextlib.AsyncExitStack() as stack:

        async def client(
            targets: dict[str, str], owned: dict[str, str], environment: Mapping[str, str] | None = None
        ) -> Worker:
            return await stack.enter_async_context(
                worker(module, TransportPlan(targets, key, owned), environment)
            )

        clients = {
            "direct": await client(direct, owners),
            "router": await client({"": world.router_address}, owners),
            "xds": await client(
                {"": "xds:///sessionmesh"}, owners, await xds_environment(world.router_address)
            ),
        }
        if nginx.PROGRAM is not None:
            proxy = await stack.enter_async_context(nginx.nginx(list(direct.values())))
            clients["nginx"] = await client({"": proxy.address}, dict.fromkeys(owners, ""))
            processes["nginx"] = [proxy.pid]
        yield clients, processes


async def _turn(
    world: RoutingWorld,
    client: Worker,
    transport: str,
    stretch: Stretch,
    processes: Processes,
    turns: Turns,
) -> None:
    forwarded = await _forwarded(world)
    if not turns.called:
        _sane(transport, await client.ask(Prepare(stretch.kind, stretch.callers), list[str]))
    before = {name: sum(map(cpu_seconds, pids)) for name, pids in processes.items()}
    called = await client.ask(stretch, Called)
    _sane(transport, called.wrong)
    for name, pids in processes.items():
        turns.cpu[name] += sum(map(cpu_seconds, pids)) - before[name]
    turns.cpu["client"] += called.cpu_seconds
    turns.called.append(called)
    if transport == "xds" and stretch.kind == "unary" and await _forwarded(world) != forwarded:
        raise NotSane("calls of the client on xDS came to the router")


async def _forwarded(world: RoutingWorld) -> int:
    return await calls_served(world.router_metrics, "sessionmesh.v1.MessageService", "SendMessage")


def _sane(transport: str, wrong: Iterable[str]) -> None:
    if found := "; ".join(wrong):
        raise NotSane(f"{transport}: {found}")


def _order(transports: list[str], turn: int) -> list[str]:
    """Each begins as often, and each comes before another as often as after it."""
    start = turn // 2 % len(transports)
    turned = transports[start:] + transports[:start]
    return turned if turn % 2 == 0 else turned[::-1]
