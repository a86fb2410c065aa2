"""Traces: who decides about recording, and what is handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from mesh_core.errors import NotFound
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import recording, tracing
from mesh_core.telemetry.exporting import ToldOnce, to_collector
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
    assert finished.status.status_code is StatusCode.ERROR
    assert finished.attributes == {"error.type": "ValueError"}


def test_what_a_foreign_exception_says_is_not_recorded(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), span("block", parent=RECORDED):
        raise ValueError("secret content")
    tracing.shutdown()
    assert "secret" not in exporter.get_finished_spans()[0].to_json()


def test_an_error_is_described_once_by_the_innermost_span(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(NotFound), span("outer", parent=RECORDED), span("inner"):
        raise NotFound("contact", "phone:+4915112345678")
    tracing.shutdown()
    inner, outer = exporter.get_finished_spans()
    assert inner.status.description is not None
    assert "+49...78" in inner.status.description
    assert outer.status.status_code is StatusCode.ERROR
    assert outer.status.description is None
    assert inner.attributes == outer.attributes == {"error.type": "RESOURCE_NOT_FOUND"}


def test_work_that_was_cancelled_has_not_failed(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(asyncio.CancelledError), span("block", parent=RECORDED):
        raise asyncio.CancelledError
    tracing.shutdown()
    assert exporter.get_finished_spans()[0].status.is_unset


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+4915112345678 accepted", "+49...78 accepted"),
        ("to 4915112345678@s.whatsapp.net", "to 491...78@s.whatsapp.net"),
        ("phone:+4915112345678, phone:+33612345678", "phone:+49...78, phone:+33...78"),
        ("msg_01h455vb4pex5vsknk084sn02q waits 86400 s", "msg_01h455vb4pex5vsknk084sn02q waits 86400 s"),
    ],
)
def test_phone_numbers_are_shortened(text: str, shown: str) -> None:
    assert tracing.shortened(text) == shown


def test_whoever_knows_a_cause_finds_the_same_trace(exporter: InMemorySpanExporter) -> None:
    root = tracing.found("shard 7, epoch 3")
    assert root == tracing.found("shard 7, epoch 3") != tracing.found("shard 7, epoch 4")
    start_span("child", parent=root).end()
    start_span("root", itself=root).end()
    start_span("other", parent="").end()
    tracing.shutdown()
    child, found, other = exporter.get_finished_spans()
    assert found.parent is None
    assert f"00-{found.context.trace_id:032x}-{found.context.span_id:016x}-01" == root
    assert child.parent is not None
    assert child.parent.span_id == found.context.span_id
    assert other.context.trace_id != found.context.trace_id


def test_traces_that_are_found_are_recorded_by_the_ratio() -> None:
    memory = InMemorySpanExporter()
    tracing.configure("service", TelemetrySettings(sample_ratio=0.1), exporter=memory)
    sampled = sum(tracing.is_sampled(tracing.found(f"cause {number}")) for number in range(2_000))
    assert 100 < sampled < 300
    assert tracing.is_sampled(tracing.found("cause", always=True))
    tracing.shutdown()
    assert not tracing.is_sampled(tracing.found("cause", always=True))


def test_a_batch_links_to_its_members_and_they_to_it(exporter: InMemorySpanExporter) -> None:
    other = RECORDED.replace("0af7", "1af7")
    tracing.record_batch("batch", "part", [RECORDED, UNRECORDED, "", other], {"size": 4}, start=1_000)
    tracing.shutdown()
    first, second, batch = exporter.get_finished_spans()
    assert [f"{link.context.trace_id:032x}" for link in batch.links] == [RECORDED[3:35], other[3:35]]
    for part, member in ((first, RECORDED), (second, other)):
        assert (part.name, part.start_time, part.attributes) == ("part", 1_000, {"size": 4})
        assert part.parent is not None
        assert f"{part.parent.span_id:016x}" == member[36:52]
        assert [link.context.span_id for link in part.links] == [batch.context.span_id]


def test_a_batch_of_nothing_that_is_recorded_is_not(exporter: InMemorySpanExporter) -> None:
    tracing.record_batch("batch", "part", [UNRECORDED, ""], start=1_000)
    tracing.shutdown()
    assert exporter.get_finished_spans() == ()


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


def recorded_of(asked: int, *, known: bool = True) -> int:
    return sum(tracing.is_sampled(tracing.enter(RECORDED, known=known)) for _ in range(asked))


def test_callers_have_only_so_many_traces_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(recording, "monotonic", lambda: now)
    tracing.configure("test", TelemetrySettings(sample_ratio=0.0), exporter=InMemorySpanExporter())
    assert recorded_of(1_000) == tracing.ASKED_PER_SECOND
    now += 0.5
    assert recorded_of(1_000) == tracing.ASKED_PER_SECOND // 2
    assert tracing.enter(RECORDED) == f"{RECORDED[:-2]}00"
    now += 1_000
    assert recorded_of(1_000, known=False) == 0
    tracing.configure("test", TelemetrySettings(sample_ratio=1.0), exporter=InMemorySpanExporter())
    assert recorded_of(1_000) == 1_000
    tracing.shutdown()


class Collector(SpanExporter):
    """Takes spans while it is there."""

    def __init__(self) -> None:
        self.there = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS if self.there else SpanExportResult.FAILURE


def test_a_collector_that_is_away_is_told_once_and_once_that_it_is_back() -> None:
    collector = Collector()
    exporter = ToldOnce(collector, "http://collector:4317")
    with capture_logs() as logs:
        for collector.there in (True, False, False, False, True, True, False):
            exporter.export(())
    assert [(entry["log_level"], entry["event"].partition(":")[0]) for entry in logs] == [
        ("warning", "traces are lost"),
        ("info", "traces are kept again"),
        ("warning", "traces are lost"),
    ]


def test_what_the_library_says_of_each_batch_is_for_who_asks_for_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    to_collector("http://127.0.0.1:1").shutdown()
    library = logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter")
    library.error("lost")
    with caplog.at_level(logging.DEBUG, library.name):
        library.error("lost, and why")
    assert [record.message for record in caplog.records] == ["lost, and why"]
