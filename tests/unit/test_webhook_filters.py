"""Which events somebody wants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh_core import ids
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_webhook.endpoints.endpoint import Snapshot
from mesh_webhook.events.catalogue import EVENT_TYPES
from mesh_webhook.events.filters import EventFilter, check_accounts, check_event_types

ACCOUNT = ids.new_uuid()


@pytest.mark.parametrize(
    ("wanted", "event_type", "passes"),
    [
        ([], "message.received", True),
        (["*"], "message.received", True),
        (["*", "session.state_changed"], "message.received", True),
        (["message.received"], "message.received", True),
        (["message.received"], "message.received_too", False),
        (["message.*"], "message.received", True),
        (["message.*"], "messages.received", False),
        (["message.*"], "session.state_changed", False),
        (["session.state_changed", "message.*"], "session.state_changed", True),
    ],
)
def test_types_and_families(wanted: list[str], event_type: str, passes: bool) -> None:
    assert EventFilter.of(wanted).matches(event_type, ACCOUNT) is passes


def test_accounts_and_types_are_combined_with_and() -> None:
    wanted = EventFilter.of(["message.*"], [ACCOUNT])
    assert wanted.matches("message.sent", ACCOUNT)
    assert not wanted.matches("message.sent", ids.new_uuid())
    assert not wanted.matches("session.paired", ACCOUNT)


def test_all_labels_must_be_there_and_more_may() -> None:
    wanted = EventFilter.of([], labels={"a": "1", "b": "2"})
    assert wanted.matches_labels({"a": "1", "b": "2", "c": "3"})
    assert not wanted.matches_labels({"a": "1"})
    assert not wanted.matches_labels({"a": "1", "b": "3"})


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        ".*",
        "Message.sent",
        "message..sent",
        "message.*.x",
        "message.recieved",
        "messages.*",
        "m*",
        "a.b",
    ],
)
def test_what_is_no_event_type_is_refused(name: str) -> None:
    with pytest.raises(InvalidField, match="event_types"):
        check_event_types("event_types", [name])


def test_repeats_are_dropped_and_numbers_bounded() -> None:
    sent, family = "message.sent", "message.*"
    assert check_event_types("f", [sent, family, sent, "*"]) == [sent, family, "*"]
    with pytest.raises(InvalidField, match="64"):
        check_event_types("f", ["message.sent"] * 65)
    name = ids.encode(Prefix.ACCOUNT, ACCOUNT)
    assert check_accounts("f", [name, name]) == [ACCOUNT]
    with pytest.raises(InvalidField):
        check_accounts("f", ["msg_" + name[4:]])


def test_the_types_are_those_of_the_protos() -> None:
    text = (Path(__file__).parents[2] / "protos" / "sessionmesh" / "v1" / "event.proto").read_text()
    payloads = text.split("oneof payload {\n")[1].split("\n  }\n")[0]
    assert set(re.findall(r"`(\w+\.\w+)`", payloads)) == EVENT_TYPES


def test_a_snapshot_sees_what_was_over_when_it_was_taken() -> None:
    snapshot = Snapshot.parse("10:20:12,15")
    assert [xid for xid in range(8, 23) if not snapshot.sees(xid)] == [12, 15, 20, 21, 22]
    assert Snapshot.parse("7:7:").sees(6)
    assert not Snapshot.parse("7:7:").sees(7)
