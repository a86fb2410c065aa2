"""Every type of event has a sample that could have come, and stands in the catalogue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from google.protobuf.message import Message

from mesh_core import addresses, ids
from mesh_core.ids import Prefix
from mesh_core.rpc.server.requests import check
from mesh_webhook.events.catalogue import EVENT_TYPES, FAMILIES, PAYLOADS
from mesh_webhook.events.filters import EventFilter
from mesh_webhook.events.rendering import event_json
from mesh_webhook.events.samples import sample
from sessionmesh.v1 import event_pb2
from tests import event_catalogue

PROTO = Path(__file__).parents[2] / "protos" / "sessionmesh" / "v1" / "event.proto"
ADDRESSES = ("address", "chat", "group", "community", "channel", "announcement_group")


def test_the_types_are_those_of_the_proto() -> None:
    _, payloads = PROTO.read_text().split("oneof payload {\n")
    comments = re.findall(r"((?:    //.*\n)+)    \w+ (\w+) = \d+;", payloads.split("\n  }\n")[0])
    types = {
        name: tuple(re.findall(r"`(\w+\.\w+)`", comment.partition("; ")[0])) for comment, name in comments
    }
    assert types == PAYLOADS | {"unrenderable": ()}
    assert len(EVENT_TYPES) == sum(len(each) for each in PAYLOADS.values())
    assert {"message.*", "session.*"} < FAMILIES


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_a_sample_could_have_come(event_type: str) -> None:
    event = sample(event_type)
    assert event.type == event_type
    assert event_type in PAYLOADS[event.WhichOneof("payload") or ""]
    payload = getattr(event, event.WhichOneof("payload") or "")
    assert payload.ByteSize(), "it says something"
    assert Parse(event_json(event), event_pb2.Event()) == event
    check(event)
    for field, value in _texts(event):
        if field == "account_id":
            ids.decode(Prefix.ACCOUNT, value, field)
        if field in ADDRESSES:
            assert addresses.parse(field, value) == value
    assert EventFilter.of([event_type]).matches(event.type, ids.new_uuid())
    assert sample(event_type) == event


def test_the_catalogue_and_the_samples_in_the_docs_are_those_of_the_protos() -> None:
    """`python -m tests.event_catalogue` writes them."""
    assert event_catalogue.PAGE.read_text() == event_catalogue.page()
    assert event_catalogue.SAMPLES.read_text() == event_catalogue.samples()
    assert json.loads(event_catalogue.SAMPLES.read_text()).keys() == EVENT_TYPES


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """The names and values of all its texts, however deep."""
    for field, value in message.ListFields():
        for one in value if field.is_repeated and not isinstance(value, str) else [value]:
            if isinstance(one, Message):
                yield from _texts(one)
            elif isinstance(one, str):
                yield field.name, one
