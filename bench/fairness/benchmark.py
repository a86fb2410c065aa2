"""What a tenant notices while a neighbour does one thing after the other that is meant to hurt.

The mesh of `mesh up` with its default limits. A bystander sends and reads at an even rate, and has an
endpoint that answers. For each attack, stretches of quiet and of attack take turns, and each of attack is
compared with the quiet one before it. Turns without any attack tell how much two such stretches differ by
themselves.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping

from bench.fairness import bystander, neighbours
from bench.fairness.attack import Neighbour
from bench.fairness.judging import STRANGERS, Noticing, worst
from bench.fairness.turns import NOTHING, Size, Turns
from bench.measuring.report import Report
from bench.measuring.workers import worker
from bench.mesh.accounts import make_customer
from bench.mesh.caller_log import record
from bench.mesh.conditions import CALL_SECONDS, ENVIRONMENT, Machine
from bench.mesh.operator import NotMeasured, Operator
from bench.mesh.running import RunningMesh, running_mesh
from bench.mesh.steady import SteadyPlan
from mesh_core.rpc.channels import open_channel
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import webhook_pb2, webhook_pb2_grpc

NODES = ("node-1", "node-2")


def run(quick: bool) -> Report:
    """Measure. Exits with the reason, and without figures, when a condition never came."""
    size = Size(1, 2.0, 0.5, 40, 50.0, 0.1) if quick else Size(6, 4.0, 1.0, 100, 50.0, 1.0)
    before = Machine.now()
    try:
        noticed, verdict, turns = asyncio.run(_measure(size))
        figures = _figures(noticed, verdict, turns)
    except NotMeasured as problem:
        raise SystemExit(f"fairness: not measured: {problem}") from None
    return Report("fairness", figures, notes=_notes(noticed, verdict, turns, size, before))


async def _measure(size: Size) -> tuple[Noticing, simulator_pb2.GetVerdictResponse, Turns]:
    async with running_mesh(len(NODES), ENVIRONMENT) as mesh:
        plan, others = await _tenants(mesh, size)
        accounts = [account for each in others.values() for account in each.accounts]
        async with (
            Operator(mesh, [*plan.accounts, *accounts]) as operator,
            worker("bench.fairness.bystander", plan) as measured,
            worker("bench.fairness.neighbours", neighbours.Neighbours(others)) as attacking,
        ):
            await operator.until_settled(NODES)
            await operator.accept_no_pairings()
            await _make_endpoint(plan, await measured.ask(bystander.Listen(), str))
            await measured.ask(bystander.Begin(), type(None))
            turns = Turns(mesh, size, attacking)
            await turns.warm_up()
            for attack in (NOTHING, *neighbours.ATTACKS):
                await turns.take(attack)
            noticed = await measured.ask(bystander.End(), bystander.Noticed)
            verdict = await operator.verdict([record(call) for call in noticed.sends])
            return Noticing(noticed), verdict, turns


async def _tenants(mesh: RunningMesh, size: Size) -> tuple[SteadyPlan, dict[str, Neighbour]]:
    """The bystander, and a neighbour for each attack with one connected account."""
    address, admin_key = mesh.file.address, mesh.file.admin_key
    customer = await make_customer(address, admin_key, size.accounts)
    plan = SteadyPlan(address, customer.key, customer.accounts, size.per_second, CALL_SECONDS)
    others = {}
    for number, attack in enumerate(neighbours.ATTACKS, start=size.accounts):
        other = await make_customer(address, admin_key, 1, name=attack, first=number)
        others[attack] = Neighbour(address, other.key, other.accounts, size.scale)
    return plan, others


async def _make_endpoint(plan: SteadyPlan, url: str) -> None:
    async with open_channel(plan.address) as channel:
        await webhook_pb2_grpc.WebhookServiceStub(channel).CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(
                request_id="bench",
                endpoint=webhook_pb2.Endpoint(url=url, event_types=bystander.EVENT_TYPES),
            ),
            metadata=(("authorization", f"Bearer {plan.key}"),),
        )


def _figures(noticed: Noticing, verdict: simulator_pb2.GetVerdictResponse, turns: Turns) -> dict[str, float]:
    attacks = [name for name in turns.by_attack if name != NOTHING]
    hooks, sends, reads = (
        {attack: ratio.value for attack, ratio in of.items()}
        for of in (
            noticed.ratios(turns.by_attack, noticed.hooks),
            noticed.ratios(turns.by_attack, noticed.sends),
            noticed.ratios(turns.by_attack, noticed.reads),
        )
    )
    calls = {attack: max(sends[attack], reads[attack]) for attack in turns.by_attack}
    return {
        "webhook_p99_ratio": worst(hooks, attacks),
        "call_p99_ratio": worst(calls, [name for name in attacks if name not in STRANGERS]),
        **{f"call_p99_ratio_{name}": calls[name] for name in STRANGERS},
        "router_mb_peak": max(turns.router_mb.values()),
        "lost": float(verdict.lost + noticed.webhooks_missing),
        "failed_calls": float(len(noticed.failures)),
        **{
            f"{attack}_{kind}": ratios[attack]
            for attack in turns.by_attack
            for kind, ratios in (("webhook", hooks), ("send", sends), ("read", reads))
        },
    }


def _notes(
    noticed: Noticing,
    verdict: simulator_pb2.GetVerdictResponse,
    turns: Turns,
    size: Size,
    before: Machine,
) -> tuple[str, ...]:
    return (
        "p99 in ms, quiet and attacked (median over the stretches), then the median of the pairs' ratios and "
        "the interval that holds it (of fewer than six pairs: the extremes):",
        *(_told(noticed, turns, attack) for attack in turns.by_attack),
        f"{len(NODES)} session-nodes, {size.accounts} accounts of the bystander, {size.per_second:.0f} sends "
        f"and as many reads a second. {size.pairs} pairs of stretches of {size.seconds:.0f} s for each "
        f"attack, whose neighbour has {size.scale:.0%} of its endpoints. "
        f"{noticed.webhooks_missing} of {noticed.webhooks_due:,} webhooks did not come. Network: "
        f"{verdict.sent:,} messages accepted, {verdict.lost} lost. " + " ".join(verdict.findings[:5]),
        f"Failed calls: {_counted(Counter(noticed.failures)) or 'none'}.",
        f"An empty unary call cost its server {before.empty_call_us:.0f} us of CPU before. Load average of "
        f"the machine before: {before.load:.1f}, after: {os.getloadavg()[0]:.1f}. Bystander, neighbours and "
        "network share its cores.",
    )


def _told(noticed: Noticing, turns: Turns, attack: str) -> str:
    """What was noticed of one attack."""
    taken = {attack: turns.by_attack[attack]}
    parts = [
        f"{kind} {noticed.milliseconds(taken[attack], timed)}, {noticed.ratios(taken, timed)[attack]}"
        for kind, timed in (
            ("webhooks", noticed.hooks),
            ("sends", noticed.sends),
            ("reads", noticed.reads),
        )
    ]
    done = _counted(turns.outcomes.get(attack, {})) or "nothing"
    return f"{attack}: {'; '.join(parts)}; router {turns.router_mb[attack]:.0f} MB. Neighbour: {done}."


def _counted(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} x {what}" for what, number in outcomes.items())
