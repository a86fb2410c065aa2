"""The picture that `mesh top` shows: what is known of the mesh at one instant. Pure.

What nobody told is None: the parts' metrics pages are read where their addresses are known, and each part may
be silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mesh_cli.commands.fleet.show import alarm_text, state_name
from mesh_cli.commands.metrics_pages import Page
from mesh_cli.commands.top.change import Change, Pages
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import session_pb2

SHARES = (0.5, 0.95, 0.99)
OUTCOMES = ("succeeded", "retrying", "failed", "lapsed")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was answered at one time: by the router, or why it did not, and by the parts' pages."""

    time: datetime
    capacity: fleet_pb2.GetCapacityResponse | None
    placement: fleet_pb2.GetPlacementResponse | None
    problem: str
    pages: Mapping[str, Page | None]


@dataclass(frozen=True, slots=True)
class Fleet:
    """As the router tells: accounts that want a session, of how many; shards; sessions by state; alarms."""

    accounts: int
    capacity: int
    usage_percent: float
    nodes: dict[str, int]
    shards_unowned: int | None
    shards_moving: int | None
    sessions: dict[str, int]
    alarms: list[str]


@dataclass(frozen=True, slots=True)
class Part:
    """A process. `cpu` is in processors, `loop_lag_seconds` the 95th percentile."""

    name: str
    state: str | None
    accounts: int | None
    shards: int | None
    memory_bytes: float | None
    cpu: float | None
    loop_lag_seconds: float | None
    answers: bool


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Messages:
    """`waiting` are those that the network has not acknowledged."""

    sent_per_second: float | None
    received_per_second: float | None
    failed_per_second: float | None
    waiting: float | None
    oldest_waiting_seconds: float | None
    accept: Latency
    ack: Latency


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Deliveries that are not done, since when the one that waits longest is due, and attempts by outcome."""

    pending: float | None
    oldest_due_seconds: float | None
    attempts_per_second: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A server, as the parts see it: `answers` is None where none of them asked."""

    name: str
    answers: bool | None
    p95_seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole picture. `problem`: why the router did not answer."""

    time: str
    router: str
    problem: str
    rates_over_seconds: float | None
    fleet: Fleet | None
    messages: Messages | None
    webhooks: Webhooks | None
    dependencies: list[Dependency]
    parts: list[Part]


def picture(router: str, before: Reading, now: Reading) -> Snapshot:
    """What is known now, with rates since `before`; which may be `now`, and then there are none."""
    pages, earlier = _answered(now), _answered(before)
    change = Change(earlier, pages)
    over = (now.time - before.time).total_seconds()
    return Snapshot(
        time=now.time.isoformat(timespec="seconds"),
        router=router,
        problem=now.problem,
        rates_over_seconds=round(over, 1) if over > 0 and pages else None,
        fleet=_fleet(now.capacity, now.placement) if now.capacity else None,
        messages=_messages(change) if _any_shows(pages, "mesh_outbox_messages") else None,
        webhooks=_webhooks(change) if _any_shows(pages, "mesh_webhook_pending_deliveries") else None,
        dependencies=_dependencies(change) if pages else [],
        parts=_parts(now, change),
    )


def _answered(reading: Reading) -> dict[str, Page]:
    return {name: page for name, page in reading.pages.items() if page is not None}


def _fleet(
    capacity: fleet_pb2.GetCapacityResponse, placement: fleet_pb2.GetPlacementResponse | None
) -> Fleet:
    states = [
        fleet_pb2.NodeState.Name(node.state).removeprefix("NODE_STATE_").lower() for node in capacity.nodes
    ]
    return Fleet(
        accounts=capacity.active,
        capacity=capacity.max,
        usage_percent=capacity.usage_percent,
        nodes={state: states.count(state) for state in dict.fromkeys(states)},
        shards_unowned=placement.unowned if placement else None,
        shards_moving=sum(map(_is_moving, placement.shards)) if placement else None,
        sessions={
            session_pb2.SessionState.Name(one.state).removeprefix("SESSION_STATE_").lower(): one.count
            for one in capacity.sessions
        },
        alarms=[alarm_text(alarm) for alarm in capacity.alarms],
    )


def _is_moving(shard: fleet_pb2.ShardPlacement) -> bool:
    """Whether it is owned, but not yet, or no longer, by whom it should be."""
    taken_over = shard.state == fleet_pb2.OWNER_STATE_CLAIMED
    return bool(shard.node_id) and (taken_over or shard.node_id != shard.assigned_node_id)


def _messages(change: Change) -> Messages:
    return Messages(
        sent_per_second=change.rate("mesh_messages_total", direction="outbound", status="SENT"),
        received_per_second=change.rate("mesh_messages_total", direction="inbound", status="RECEIVED"),
        failed_per_second=change.rate("mesh_messages_failed_total"),
        waiting=_sum(change.now, "mesh_outbox_messages"),
        oldest_waiting_seconds=_most(change.now, "mesh_outbox_oldest_age_seconds"),
        accept=Latency(*change.quantiles("mesh_message_accept_duration_seconds", SHARES)),
        ack=Latency(*change.quantiles("mesh_message_ack_duration_seconds", SHARES)),
    )


def _webhooks(change: Change) -> Webhooks:
    attempts = {one: change.rate("mesh_webhook_attempts_total", outcome=one) for one in OUTCOMES}
    return Webhooks(
        # Each process of the webhook part tells of all deliveries.
        pending=_most(change.now, "mesh_webhook_pending_deliveries"),
        oldest_due_seconds=_most(change.now, "mesh_webhook_oldest_due_seconds"),
        attempts_per_second=attempts,
    )


def _dependencies(change: Change) -> list[Dependency]:
    found = [_authority("etcd", "etcd", change), _authority("Postgres", "postgres", change), _redis(change)]
    used, most = (_most(change.now, f"mesh_database_{what}connections") for what in ("", "max_"))
    if used is not None and most is not None:
        found[1] = Dependency(
            "Postgres", found[1].answers, found[1].p95_seconds, f"{used:.0f} of {most:.0f} connections"
        )
    networks = {labels["network"] for page in change.now.values() for labels, _ in page.find(_FAILING)}
    return found + [
        Dependency(network, not _most(change.now, _FAILING, network=network)) for network in sorted(networks)
    ]


def _authority(name: str, authority: str, change: Change) -> Dependency:
    """What session-nodes rest on: lost when one of them has not heard it in time."""
    heard = [
        value
        for page in change.now.values()
        for _, value in page.find("mesh_ownership_authority", authority=authority)
    ]
    [p95] = change.quantiles("mesh_ownership_beat_duration_seconds", [0.95], authority=authority)
    return Dependency(name, all(heard) if heard else None, p95)


def _redis(change: Change) -> Dependency:
    asked = {
        one: change.rate("mesh_limits_asked_total", outcome=one) or 0.0 for one in ("answered", "unavailable")
    }
    if not any(asked.values()):
        return Dependency("Redis", None)
    late = asked["unavailable"]
    return Dependency("Redis", not late, detail=f"{late:.1f} questions a second not answered" if late else "")


def _parts(now: Reading, change: Change) -> list[Part]:
    nodes = {node.id: node for node in now.capacity.nodes} if now.capacity else {}
    names = [*sorted(nodes), *sorted(now.pages.keys() - nodes.keys())]
    return [_part(name, nodes.get(name), now, change) for name in names]


def _part(name: str, node: fleet_pb2.Node | None, now: Reading, change: Change) -> Part:
    page = change.now.get(name)
    [lag] = change.quantiles("mesh_event_loop_lag_seconds", [0.95], part=name)
    return Part(
        name=name,
        state=state_name(node) if node else None,
        accounts=node.accounts if node else None,
        shards=node.shards if node else None,
        memory_bytes=page.total("process_resident_memory_bytes") if page else None,
        cpu=change.rate("process_cpu_seconds_total", part=name),
        loop_lag_seconds=lag,
        answers=name not in now.pages or page is not None,
    )


def _any_shows(pages: Pages, name: str) -> bool:
    return any(name in page.samples for page in pages.values())


def _sum(pages: Pages, name: str) -> float | None:
    found = [total for page in pages.values() if (total := page.total(name)) is not None]
    return sum(found) if found else None


def _most(pages: Pages, name: str, **labels: str) -> float | None:
    return max((value for page in pages.values() for _, value in page.find(name, **labels)), default=None)


_FAILING = "mesh_network_failing"
