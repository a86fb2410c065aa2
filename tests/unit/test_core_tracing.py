"""Traces: who decides about recording, and what is handed on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_core.telemetry.tracing import span, start_span

RECORDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNRECORDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=1.0), exporter=memory)
    yield memory
    tracing.shutdown()


def never_by_default() -> InMemorySpanExporter:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=0.0), exporter=memory)
    return memory


def test_a_span_continues_the_trace_that_it_was_given(exporter: InMemorySpanExporter) -> None:
    with span("mesh.node.send", parent=RECORDED) as current:
        assert current.recorded
    tracing.shutdown()
    (finished,) = exporter.get_finished_spans()
    assert finished.name == "mesh.node.send"
    assert finished.parent is not None
    assert f"{finished.parent.span_id:016x}" == RECORDED[36:52]
    assert current.traceparent == (
        f"00-{RECORDED[3:35]}-{finished.get_span_context().span_id:016x}-01"  # type: ignore[union-attr]  # finished
    )


def test_an_unsampled_remote_trace_stays_unsampled_and_is_handed_on_as_it_came(
    exporter: InMemorySpanExporter,
) -> None:
    with span("mesh.node.send", parent=UNRECORDED) as current:
        assert not current.recorded
        assert tracing.current_traceparent() == UNRECORDED
        with span("mesh.node.inner") as inner:
            assert not inner.recorded
    tracing.shutdown()
    assert exporter.get_finished_spans() == ()


def test_a_new_trace_is_recorded_by_the_ratio_and_its_decision_is_handed_on() -> None:
    exporter = never_by_default()
    with span("mesh.cli.send", parent="") as current:
        assert not current.recorded
        assert tracing.current_traceparent().endswith("-00")
        assert len(tracing.current_traceparent()) == 55
        with span("mesh.cli.inner") as inner:
            assert inner.traceparent[3:35] == current.traceparent[3:35]
    tracing.shutdown()
    assert exporter.get_finished_spans() == ()


def test_nested_spans_are_parent_and_child(exporter: InMemorySpanExporter) -> None:
    with span("outer", parent="") as outer, span("inner"):
        pass
    tracing.shutdown()
    inner_done, outer_done = exporter.get_finished_spans()
    assert inner_done.parent is not None
    assert f"{inner_done.parent.span_id:016x}" == outer.traceparent[36:52]
    assert outer_done.parent is None


def test_the_trace_before_is_current_again_after_a_block(exporter: InMemorySpanExporter) -> None:
    tracing.adopt(RECORDED)
    with span("block"):
        assert tracing.current_traceparent() != RECORDED
    assert tracing.current_traceparent() == RECORDED
    tracing.adopt("")


@pytest.mark.parametrize(
    "malformed", ["00-xyz", "x" * 55, RECORDED.upper(), f"{RECORDED}-more", RECORDED.replace("-", "_")]
)
def test_a_malformed_traceparent_begins_a_new_trace(exporter: InMemorySpanExporter, malformed: str) -> None:
    with span("fresh", parent=malformed) as current:
        assert current.traceparent[3:35] != RECORDED[3:35]
        assert current.recorded


def test_an_exception_in_the_block_marks_the_span_failed(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="broken"), span("block", parent=RECORDED):
        raise ValueError("broken")
    tracing.shutdown()
    (finished,) = exporter.get_finished_spans()
    assert not finished.status.is_ok
    assert finished.events[0].name == "exception"


def test_a_span_can_be_made_after_the_fact_with_links_to_a_batch(exporter: InMemorySpanExporter) -> None:
    late = start_span("mesh.journal.commit", parent=RECORDED, links=[RECORDED, UNRECORDED, ""], start=1_000)
    late.set("mesh.rows", 3)
    late.event("committed")
    late.end(2_000)
    tracing.shutdown()
    (finished,) = exporter.get_finished_spans()
    assert (finished.start_time, finished.end_time) == (1_000, 2_000)
    assert [f"{link.context.span_id:016x}" for link in finished.links] == [RECORDED[36:52]]
    assert finished.attributes == {"mesh.rows": 3}


def test_without_an_exporter_a_recorded_trace_passes_through_untouched() -> None:
    tracing.configure("service", TelemetrySettings())
    with span("block", parent=RECORDED) as current:
        assert not current.recorded
        assert tracing.current_traceparent() == RECORDED
