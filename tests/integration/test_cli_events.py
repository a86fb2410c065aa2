"""`mesh events`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mesh_cli.__main__ import app
from mesh_cli.commands import events
from mesh_core import errors
from sessionmesh.v1 import event_pb2, event_pb2_grpc
from tests.conftest import LoopThread
from tests.support.fake_router import FakeRouter, refuse


def happened(number: int, text: str = "") -> event_pb2.Event:
    event = event_pb2.Event(id=f"evt_{number}", cursor=f"cursor-{number}", type="webhook.test")
    event.test.text = text or f"number {number}"
    event.commit_time.FromDatetime(datetime(2026, 5, 4, 10, tzinfo=UTC))
    return event


class Events(event_pb2_grpc.EventServiceServicer):
    """Sends two events in two frames, and ends."""

    def __init__(self) -> None:
        self.requests: list[event_pb2.SubscribeRequest] = []
        self.acknowledged: list[tuple[str, str, str]] = []
        self.text = ""

    async def Subscribe(self, request: event_pb2.SubscribeRequest, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        yield event_pb2.SubscribeResponse(heartbeat=event_pb2.Heartbeat(consumer_id="con_1"))
        for number in (1, 2):
            batch = event_pb2.EventBatch(events=[happened(number, self.text)])
            yield event_pb2.SubscribeResponse(events=batch)
        await refuse(context, errors.NotFound("subscription", "orders"))

    async def AcknowledgeEvents(self, request: event_pb2.AcknowledgeEventsRequest, context: Any) -> Any:
        self.acknowledged.append((request.name, request.cursor, request.consumer_id))
        return event_pb2.AcknowledgeEventsResponse()


@pytest.fixture
def served() -> Events:
    return Events()


@pytest.fixture
def router(server_loop: LoopThread, served: Events) -> Iterator[FakeRouter]:
    running = FakeRouter({event_pb2_grpc.add_EventServiceServicer_to_server: served})
    server_loop.run(running.start())
    yield running
    server_loop.run(running.kill())


def tail(router: FakeRouter, *arguments: str) -> Result:
    command = ["--address", router.address, "--api-key", "smk_1", "events", "tail", *arguments]
    return CliRunner().invoke(app, command)


def test_events_are_shown_a_line_each(router: FakeRouter) -> None:
    ended = tail(router)
    assert ended.stdout.splitlines() == [
        '2026-05-04 10:00:00.000  webhook.test  -  {"text": "number 1"}',
        '2026-05-04 10:00:00.000  webhook.test  -  {"text": "number 2"}',
    ]
    assert (ended.exit_code, "RESOURCE_NOT_FOUND" in ended.stderr) == (1, True)


def test_events_are_shown_as_json(router: FakeRouter) -> None:
    shown = [json.loads(line) for line in tail(router, "--json").stdout.splitlines()]
    assert [(one["id"], one["cursor"]) for one in shown] == [("evt_1", "cursor-1"), ("evt_2", "cursor-2")]


def test_the_options_say_which_events(router: FakeRouter, served: Events) -> None:
    tail(router, "--account", "acc_1", "--account", "acc_2", "--type", "message.*", "--from", "cursor-0")
    assert served.requests[0] == event_pb2.SubscribeRequest(
        cursor="cursor-0", account_ids=["acc_1", "acc_2"], event_types=["message.*"]
    )
    assert not served.acknowledged


def test_a_named_subscription_is_acknowledged_as_it_is_shown(router: FakeRouter, served: Events) -> None:
    tail(router, "--subscription", "orders", "--tenant", "tnt_1")
    assert served.requests[0] == event_pb2.SubscribeRequest(subscription="orders", tenant_id="tnt_1")
    assert served.acknowledged == [("orders", "cursor-1", "con_1"), ("orders", "cursor-2", "con_1")]


def test_what_contradicts_itself_is_refused(router: FakeRouter, served: Events) -> None:
    ended = tail(router, "--subscription", "orders", "--from", "cursor-0")
    assert ended.exit_code == 1
    assert "leave out all others" in ended.stderr
    assert not served.requests


def test_long_and_odd_payloads_are_cut_and_made_visible(router: FakeRouter, served: Events) -> None:
    served.text = "\x1b[2J" + "x" * 1000
    first = tail(router).stdout.splitlines()[0]
    assert len(first) < 300
    assert "\x1b" not in first


def test_it_ends_well_when_it_is_interrupted(router: FakeRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(events, "say", interrupt)
    ended = tail(router)
    assert (ended.exit_code, ended.stderr) == (0, "")
