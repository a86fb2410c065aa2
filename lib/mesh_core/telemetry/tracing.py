"""Traces that cost nothing when a trace is not recorded.

A trace is carried as its W3C `traceparent`, in metadata and in rows. Whoever begins one decides by the sample
ratio whether it is recorded; everyone after keeps that decision, so no trace is half there. The flag is
looked at before anything is made: without it there is no OpenTelemetry object, only the text handed on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from mesh_core.settings import TelemetrySettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

Attribute = str | bool | int | float
Attributes = Mapping[str, Attribute]


def configure(service: str, settings: TelemetrySettings, *, exporter: SpanExporter | None = None) -> None:
    """Record this process's share of traces as `service`, where there is an endpoint or an `exporter`."""
    if exporter is None and settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter,
        )  # slow, often unused

        insecure = not settings.otlp_endpoint.startswith("https://")
        exporter = OTLPSpanExporter(settings.otlp_endpoint, insecure=insecure, timeout=5)
    if exporter is None:
        _recorder.stop()
    else:
        _recorder.start(service, settings.sample_ratio, exporter)


def shutdown() -> None:
    """Export what is still buffered; blocks for at most the exporter's timeout."""
    _recorder.stop()


def current_traceparent() -> str:
    """The `traceparent` to hand on, sampled or not; "" outside any trace."""
    return _current.get()


def is_sampled(traceparent: str) -> bool:
    """Whether a well-formed `traceparent` has the sampled flag."""
    return len(traceparent) == 55 and traceparent[54] in _ODD


def adopt(traceparent: str) -> None:
    """Make `traceparent` the current one for the rest of this task."""
    _current.set(traceparent)


def begin(traceparent: str) -> str:
    """The trace of work that arrived with `traceparent`; a malformed or empty one begins a new trace.

    Synchronous and cheap: no span is made. Pass the answer to `start_span` when `is_sampled` says so.
    """
    if traceparent and _well_formed(traceparent):
        return traceparent
    sampled = _recorder.tracer is not None and random.random() < _recorder.ratio  # noqa: S311 - not a secret
    return f"00-{random.getrandbits(128) or 1:032x}-{_ROOT if sampled else _UNRECORDED}"


class Span:
    """A span that may be recorded. `traceparent` names it to whoever comes after; it must be ended once."""

    __slots__ = ("_inner", "traceparent")

    def __init__(self, inner: trace.Span | None, traceparent: str) -> None:
        self._inner = inner
        self.traceparent = traceparent

    @property
    def recorded(self) -> bool:
        """False when every call on this span does nothing."""
        return self._inner is not None

    def set(self, key: str, value: Attribute) -> None:
        """Set one attribute."""
        if self._inner is not None:
            self._inner.set_attribute(key, value)

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Note that something happened at this moment."""
        if self._inner is not None:
            self._inner.add_event(name, attributes)

    def fail(self, error: BaseException | str) -> None:
        """Mark the span as failed."""
        if self._inner is None:
            return
        if isinstance(error, BaseException):
            self._inner.record_exception(error)
        self._inner.set_status(Status(StatusCode.ERROR, str(error)))

    def end(self, at: int | None = None) -> None:
        """End the span now, or at a time in nanoseconds since the epoch."""
        if self._inner is not None:
            self._inner.end(at)


Kind = Literal["internal", "server", "client", "producer", "consumer"]


def start_span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
    start: int | None = None,
) -> Span:
    """A span that the caller ends and that is not current: for work that outlives a block, or after a commit.

    `parent` is a traceparent, "" begins a new trace, None is the current one. `links` are traceparents of
    other traces (a batch's). `start` is in nanoseconds since the epoch.
    """
    origin = begin(_current.get() if parent is None else parent)
    tracer = _recorder.tracer
    if tracer is None or origin[54] not in _ODD:
        return Span(None, origin)
    inner = tracer.start_span(
        name,
        None if origin.endswith(_ROOT) else trace.set_span_in_context(NonRecordingSpan(_context(origin))),
        _KINDS[kind],
        attributes,
        [Link(_context(link)) for link in links if is_sampled(link) and _well_formed(link)],
        start,
    )
    made = inner.get_span_context()
    return Span(inner, f"00-{made.trace_id:032x}-{made.span_id:016x}-01")


class span:
    """`with span("mesh.node.send", attributes={...}) as current:`; an exception in the block marks it failed.

    Arguments as for `start_span`. Inside the block `current_traceparent()` is this span's.
    """

    __slots__ = ("_span", "_token")

    def __init__(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: str | None = None,
        attributes: Attributes | None = None,
        links: Sequence[str] = (),
    ) -> None:
        self._span = start_span(name, kind=kind, parent=parent, attributes=attributes, links=links)

    def __enter__(self) -> Span:
        self._token = _current.set(self._span.traceparent)
        return self._span

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        if error is not None:
            self._span.fail(error)
        self._span.end()


class _Recorder:
    """The process's tracer; None while nothing is recorded."""

    def __init__(self) -> None:
        self.tracer: trace.Tracer | None = None
        self.ratio = 0.0
        self._provider: TracerProvider | None = None

    def start(self, service: str, ratio: float, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource  # the SDK is slow to import, and often unused
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self.stop()
        # Sampling is decided by the flag before a span is asked for, so the SDK records all it is asked for.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create({"service.name": service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY))
        self.tracer = self._provider.get_tracer("sessionmesh")
        self.ratio = ratio

    def stop(self) -> None:
        self.tracer = None
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None


def _context(traceparent: str) -> SpanContext:
    trace_id, span_id = int(traceparent[3:35], 16), int(traceparent[36:52], 16)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


_EXPORT_EVERY = 1000.0  # milliseconds: traces are looked at right after they were made
_well_formed = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_ODD = frozenset("13579bdf")
_ROOT = "0000000000000000-01"  # sampled, and no span yet: never leaves `begin` and `start_span`
_UNRECORDED = "0000000000000001-00"
_KINDS: dict[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}
_current: ContextVar[str] = ContextVar("traceparent", default="")
_recorder = _Recorder()
