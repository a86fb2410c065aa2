"""`mesh top`: what it makes of two readings, and how it draws that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_cli.commands.metrics_pages import Page, parse_page
from mesh_cli.commands.running_parts import named_services
from mesh_cli.commands.terminal import Terminal
from mesh_cli.commands.top.change import Change, quantile
from mesh_cli.commands.top.snapshot import Reading, Snapshot, picture
from mesh_cli.commands.top.view import View
from mesh_core.etcd.discovery import ServiceInfo
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import session_pb2

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
SECONDS = 10.0


def page(text: str, *, time: float = 0.0, started: float = 1.0) -> Page:
    return parse_page(f"process_start_time_seconds {started}\n{text}\n", time)


def change(before: str, now: str, *, started: float = 1.0) -> Change:
    """What one part counted within ten seconds."""
    return Change({"node-1": page(before)}, {"node-1": page(now, time=SECONDS, started=started)})


def test_a_rate_is_what_was_counted_over_the_time_between() -> None:
    counted = change('a_total{kind="x"} 5\na_total{kind="y"} 1', 'a_total{kind="x"} 25\na_total{kind="y"} 2')
    assert counted.rate("a_total", kind="x") == 2.0
    assert counted.rate("a_total") == 2.1
    assert counted.rate("b_total") == 0.0


def test_rates_of_all_parts_add_up_or_are_one_parts() -> None:
    before = {name: page("a_total 0") for name in ("node-1", "node-2", "gone")}
    now = {name: page("a_total 30", time=SECONDS) for name in ("node-1", "node-2", "new")}
    assert Change(before, now).rate("a_total") == 6.0
    assert Change(before, now).rate("a_total", part="node-2") == 3.0
    assert Change(before, now).rate("a_total", part="new") is None


def test_a_part_that_started_anew_has_counted_from_zero() -> None:
    assert change("a_total 1000", "a_total 20", started=2.0).rate("a_total") == 2.0


def test_a_worker_is_never_taken_for_another_one_that_has_ended() -> None:
    def workers(*numbers: int) -> list[tuple[str, ServiceInfo]]:
        return [
            ("router", ServiceInfo(id=f"id-{n}", address="mesh:7600", metrics=f"mesh:946{n}"))
            for n in numbers
        ]

    [first, second, third] = named_services(workers(1, 2, 3))
    assert (first, second) == ("router mesh:7600 9461", "router mesh:7600 9462")
    assert [*named_services(workers(2, 3))] == [second, third]
    assert [*named_services(workers(2))] == ["router mesh:7600"]


def test_one_reading_has_no_rates() -> None:
    only = {"node-1": page("a_total 5")}
    assert Change(only, only).rate("a_total") is None
    assert Change({}, only).quantiles("a", [0.5]) == [None]


def test_quantiles_are_of_what_was_counted_between() -> None:
    before = 'a_bucket{le="0.1"} 100\na_bucket{le="1"} 100\na_bucket{le="+Inf"} 100'
    now = 'a_bucket{le="0.1"} 150\na_bucket{le="1"} 190\na_bucket{le="+Inf"} 200'
    assert change(before, now).quantiles("a", [0.25, 0.5, 0.99]) == [0.05, 0.1, 1.0]
    assert change(now, now).quantiles("a", [0.5]) == [None]


@given(st.lists(st.integers(0, 50), min_size=3, max_size=6), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_quantile_lies_within_the_bounds_and_rises_with_its_share(
    each: list[int], one: float, other: float
) -> None:
    bounds = [0.1 * 2**number for number in range(len(each) - 1)]
    counts = dict(zip([*bounds, float("inf")], accumulate(each), strict=True))
    found = [quantile(counts, share) for share in sorted((one, other))]
    if not sum(each):
        assert found == [None, None]
    else:
        low, high = (value for value in found if value is not None)
        assert 0 <= low <= high <= bounds[-1]


NODE_PAGE = """
process_cpu_seconds_total {cpu}
process_resident_memory_bytes 1e8
mesh_outbox_messages 3
mesh_outbox_oldest_age_seconds 1.5
mesh_messages_total{{direction="outbound",kind="text",status="SENT"}} {sent}
mesh_messages_failed_total{{reason="BLOCKED"}} {failed}
mesh_ownership_authority{{authority="etcd"}} 1
mesh_ownership_authority{{authority="postgres"}} {postgres}
mesh_database_connections 42
mesh_database_max_connections 97
mesh_network_failing{{network="simulated"}} 0
"""
WEBHOOK_PAGE = """
mesh_webhook_pending_deliveries 7
mesh_webhook_oldest_due_seconds 120
mesh_webhook_attempts_total{{outcome="failed"}} {failed}
"""


def reading(seconds: float, *, webhook: bool = True, postgres: int = 1) -> Reading:
    """Of two nodes and a webhook part, at an instant."""
    nodes = [
        fleet_pb2.Node(id=f"node-{number}", state=fleet_pb2.NODE_STATE_ACTIVE, accounts=5, shards=2048)
        for number in (1, 2)
    ]
    counts = [session_pb2.SessionStateCount(state=session_pb2.SESSION_STATE_CONNECTED, count=9)]
    shards = [
        fleet_pb2.ShardPlacement(
            shard=0, node_id="node-1", assigned_node_id="node-1", state=fleet_pb2.OWNER_STATE_ACTIVE
        ),
        fleet_pb2.ShardPlacement(
            shard=1, node_id="node-1", assigned_node_id="node-2", state=fleet_pb2.OWNER_STATE_ACTIVE
        ),
        fleet_pb2.ShardPlacement(shard=2, assigned_node_id="node-2"),
    ]
    node = NODE_PAGE.format(cpu=seconds / 2, sent=20 * seconds, failed=seconds / 10, postgres=postgres)
    hook = page(WEBHOOK_PAGE.format(failed=seconds), time=seconds)
    return Reading(
        NOON + timedelta(seconds=seconds),
        fleet_pb2.GetCapacityResponse(active=10, max=100, usage_percent=10, nodes=nodes, sessions=counts),
        fleet_pb2.GetPlacementResponse(shards=shards, unowned=1),
        "",
        {"node-1": page(node, time=seconds), "webhook": hook if webhook else None},
    )


def test_the_picture_has_what_router_and_pages_tell() -> None:
    seen = picture("mesh:7600", reading(0), reading(SECONDS))
    assert seen.rates_over_seconds == SECONDS
    assert seen.fleet is not None
    assert (seen.fleet.shards_unowned, seen.fleet.shards_moving, seen.fleet.sessions) == (
        1,
        1,
        {"connected": 9},
    )
    assert seen.messages is not None
    assert (seen.messages.sent_per_second, seen.messages.failed_per_second) == (20.0, 0.1)
    assert seen.webhooks is not None
    assert (seen.webhooks.oldest_due_seconds, seen.webhooks.attempts_per_second["failed"]) == (120, 1.0)
    assert {one.name: one.answers for one in seen.dependencies} == {
        "etcd": True,
        "Postgres": True,
        "Redis": None,
        "simulated": True,
    }
    assert [(part.name, part.accounts, part.cpu) for part in seen.parts] == [
        ("node-1", 5, 0.5),
        ("node-2", 5, None),  # nobody said where its page is
        ("webhook", None, 0.0),
    ]


def test_what_does_not_answer_is_shown_as_such() -> None:
    silent = picture("mesh:7600", reading(0), reading(SECONDS, webhook=False, postgres=0))
    assert silent.webhooks is None
    drawn = lines(silent)
    assert any(line.startswith("webhook ") and "no answer" in line for line in drawn)
    assert any("Postgres LOST" in line for line in drawn)

    away = Reading(NOON, None, None, "UNAVAILABLE: nothing listens", {})
    assert "The router does not answer: UNAVAILABLE: nothing listens" in lines(
        picture("mesh:7600", away, away)
    )


def lines(snapshot: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    """What a terminal of this size shows, without the blanks at the ends of lines."""
    output = StringIO()
    console = Terminal(width=width, height=height, file=output)
    console.print(View(snapshot, keys="q ends"))
    return [line.rstrip() for line in output.getvalue().splitlines()]


def test_eighty_columns_and_24_lines_show_all_of_a_small_mesh() -> None:
    drawn = lines(picture("mesh:7600", reading(0), reading(SECONDS)))
    assert len(drawn) <= 24
    assert not any("…" in line for line in drawn)
    assert drawn[0].startswith("mesh top  mesh:7600")
    assert drawn[0].endswith("q ends")
    assert "messages  out 20.0/s  in 0.0/s  failed 0.1/s  waiting 3, the oldest for 1.5 s" in drawn


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 30), (20, 5), (1, 1)])
def test_more_parts_than_lines_are_counted_and_no_size_breaks_it(width: int, height: int) -> None:
    now = reading(SECONDS)
    assert now.capacity is not None
    now.capacity.nodes.extend(fleet_pb2.Node(id=f"node-{number}") for number in range(3, 60))
    drawn = lines(picture("mesh:7600", reading(0), now), width, height)
    assert all(len(line) <= width for line in drawn)
    if width == 80:
        assert len(drawn) == height
        assert drawn[-1].startswith("and ")
        assert drawn[-1].endswith(" more")
