"""What the sidecar does is in the traces of messages: told in its answers, and recorded by the node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_session_node.drivers.interface.content import OutgoingMessage
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from tests.support.eventually import eventually
from tests.support.fake_sidecar import steps_of
from tests.support.sidecar_world import Account, InProcess, sidecar_world

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDING = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
async def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Account]:
    async with sidecar_world(tmp_path, monkeypatch, process=InProcess) as world:
        yield await world.account()


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=1.0), exporter=memory)
    yield memory
    tracing.shutdown()


def spans_of(exporter: InMemorySpanExporter) -> dict[str, tuple[int, str]]:
    """By name: when each began, and the span that it is of; all of one trace."""
    tracing.shutdown()
    finished = exporter.get_finished_spans()
    assert len({span.get_span_context().trace_id for span in finished}) <= 1  # type: ignore[union-attr]  # finished
    return {
        span.name: (span.start_time or 0, f"{span.parent.span_id:016x}" if span.parent else "")
        for span in finished
    }


async def send(account: Account, traceparent: str) -> pb.RunRequest:
    account.link.send(OutgoingMessage("3EB0AA", "phone:+4916", b"message", traceparent=traceparent))
    await eventually(lambda: account.events.acks)
    (told,) = account.told("send")
    return told


async def test_what_sending_a_message_took_is_in_its_trace(
    account: Account, exporter: InMemorySpanExporter
) -> None:
    assert (await send(account, SENDING)).send.traced
    parent = SENDING[36:52]
    assert spans_of(exporter) == {"mesh.sidecar.encrypt": (1, parent), "mesh.sidecar.wait": (2, parent)}


async def test_nothing_is_asked_of_a_message_whose_trace_is_not_recorded(
    account: Account, exporter: InMemorySpanExporter
) -> None:
    assert not (await send(account, "")).send.traced
    assert spans_of(exporter) == {}


async def test_what_refusing_a_message_took_is_in_its_trace(
    account: Account, exporter: InMemorySpanExporter
) -> None:
    steps = steps_of(pb.DEVICE_STEP_KIND_LOOK_UP)
    rejected = pb.MessageRejected(network_message_id="say", steps=steps)
    said = pb.RunResponse(connection=account.number, rejected=rejected).SerializeToString()
    account.link.send(OutgoingMessage("say", "say", said, traceparent=SENDING))
    await eventually(lambda: account.events.rejects)
    assert list(spans_of(exporter)) == ["mesh.sidecar.look_up"]


async def test_the_trace_of_a_message_that_came_begins_when_its_stanza_did(
    account: Account, exporter: InMemorySpanExporter
) -> None:
    steps = steps_of(pb.DEVICE_STEP_KIND_RECEIVE, pb.DEVICE_STEP_KIND_DECRYPT)
    account.has_said(incoming=pb.IncomingMessage(sequence=5, network_message_id="IN1", steps=steps))
    (came,) = await eventually(lambda: account.events.incoming)
    assert tracing.is_sampled(came.traceparent)
    received = came.traceparent[36:52]
    assert spans_of(exporter) == {"mesh.sidecar.receive": (1, ""), "mesh.sidecar.decrypt": (2, received)}


async def test_what_a_file_took_is_in_the_trace_of_whoever_stores_or_fetches_it(
    account: Account, exporter: InMemorySpanExporter
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"file"

    with tracing.span("mesh.node.prepare", parent=SENDING) as preparing:
        await account.link.upload("image", pieces())
    with tracing.span("mesh.node.fetch_media", parent=SENDING) as fetching:
        assert [piece async for piece in account.link.fetch(b"file")] == [b"file"]
    found = spans_of(exporter)
    assert found["mesh.sidecar.store_file"] == (1, preparing.traceparent[36:52])
    assert found["mesh.sidecar.fetch_file"] == (1, fetching.traceparent[36:52])


async def test_a_message_that_came_is_not_recorded_against_the_ratio(account: Account) -> None:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=0.0), exporter=memory)
    steps = steps_of(pb.DEVICE_STEP_KIND_RECEIVE)
    account.has_said(incoming=pb.IncomingMessage(sequence=5, network_message_id="IN1", steps=steps))
    (came,) = await eventually(lambda: account.events.incoming)
    assert spans_of(memory) == {}
    assert tracing.begin(came.traceparent) == came.traceparent  # whoever goes on decides nothing else
