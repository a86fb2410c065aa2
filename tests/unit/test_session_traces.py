"""Which traces a session's work on messages is of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_session_node.context.events import EventMaker, in_trace
from mesh_session_node.drivers.interface.notices import CallOffered
from mesh_session_node.drivers.interface.outcomes import End
from mesh_session_node.journal import Event, InboundMessage, StatusChange
from sessionmesh.v1 import contact_pb2, event_pb2, message_pb2
from tests.support.incoming import incoming
from tests.support.memory_host import OneAccount

SPAN = "b7ad6b7169203331"
RECORDED = f"00-0af7651916cd43dd8448eb211c80319c-{SPAN}-01"
UNRECORDED = f"00-0af7651916cd43dd8448eb211c80319c-{SPAN}-00"


@pytest.fixture(autouse=True)
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=1.0), exporter=memory)
    yield memory
    tracing.shutdown()


def span(exporter: InMemorySpanExporter, name: str) -> Any:
    tracing.shutdown()
    (found,) = [one for one in exporter.get_finished_spans() if one.name == name]
    return found


async def sent(account: OneAccount, traceparent: str, text: str = "hello") -> str:
    """What the link is told of a message with this trace."""
    await account.connected()
    out = account.accept(text)
    out.traceparent = traceparent
    await account.journal.commit()
    if account.preparing:
        await account.prepared(out, "ref")
    [message] = account.driver.link.sent
    account.driver.link.ack(out.network_id)
    return message.traceparent


async def test_a_link_is_told_the_span_of_sending_a_message(
    account: OneAccount, exporter: InMemorySpanExporter
) -> None:
    told = await sent(account, RECORDED)
    sending = span(exporter, "mesh.driver.send")
    assert told[36:52] == f"{sending.context.span_id:016x}"
    assert f"{sending.parent.span_id:016x}" == SPAN


async def test_a_link_is_told_nothing_of_a_trace_that_is_not_recorded(account: OneAccount) -> None:
    assert await sent(account, UNRECORDED) == ""


async def test_a_link_is_told_nothing_where_nothing_is_recorded(account: OneAccount) -> None:
    tracing.shutdown()
    assert await sent(account, RECORDED) == ""


def test_an_event_of_a_call_is_in_its_trace_unless_it_has_its_own() -> None:
    events = EventMaker("tnt_1", "acc_1", {})
    contact = events.contact("contact.updated", contact_pb2.Contact(first_name="Ann"), 1)
    edited = events.changed("message.edited", message_pb2.Message(traceparent=UNRECORDED), 1)
    change = StatusChange(contact.id, 1, 1)
    first, second, other = [in_trace(row, RECORDED) for row in (contact, edited, change)]
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    told = event_pb2.Event.FromString(first.body)
    assert (told.traceparent, told.contact.contact.first_name, told.id[:4]) == (RECORDED, "Ann", "evt_")
    assert event_pb2.Event.FromString(second.body).traceparent == UNRECORDED
    assert other is change


async def test_what_a_message_needs_is_looked_for_in_its_trace(
    account: OneAccount, exporter: InMemorySpanExporter
) -> None:
    await sent(account, RECORDED, "cat.png")
    assert f"{span(exporter, 'mesh.node.prepare').parent.span_id:016x}" == SPAN


async def test_a_message_that_came_goes_on_with_its_drivers_trace(
    account: OneAccount, exporter: InMemorySpanExporter
) -> None:
    await account.connected()
    account.driver.link.receive(incoming(traceparent=RECORDED))
    await account.settle()
    [row] = [row for row in account.journal.waiting if isinstance(row, InboundMessage)]
    received = span(exporter, "mesh.driver.receive")
    assert f"{received.parent.span_id:016x}" == SPAN
    assert row.traceparent[3:52] == f"{RECORDED[3:35]}-{received.context.span_id:016x}"


async def test_the_event_of_a_notice_is_in_the_notices_trace(
    account: OneAccount, exporter: InMemorySpanExporter
) -> None:
    await account.connected()
    account.driver.link.notify(
        CallOffered("C1", "phone:+4915100000009", 1_700_000_000_000_000, video=False), 7
    )
    await account.settle()
    [row] = [row for row in account.journal.waiting if isinstance(row, Event) and row.type == "call.offered"]
    await account.journal.commit()
    await account.settle()
    taken = span(exporter, "mesh.driver.notice")
    assert taken.attributes["mesh.notice"] == "CallOffered"
    assert event_pb2.Event.FromString(row.body).traceparent[36:52] == f"{taken.context.span_id:016x}"


async def test_a_lost_connection_begins_a_trace_that_the_next_one_is_part_of(
    account: OneAccount, exporter: InMemorySpanExporter
) -> None:
    await account.connected()
    account.driver.link.end(End.LOST, "+4915112345678 is gone")
    account.session.connect(asked=False)
    await account.dial()
    outage = span(exporter, "mesh.session.outage")
    *_, again = [one for one in exporter.get_finished_spans() if one.name == "mesh.session.connect"]
    assert outage.parent is None
    assert outage.status.description == "+49...78 is gone"
    assert again.parent is not None
    assert again.parent.span_id == outage.context.span_id
