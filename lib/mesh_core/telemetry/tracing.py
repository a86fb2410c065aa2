"""Traces that cost nothing when a trace is not recorded.

A trace is carried as its W3C `traceparent`, in metadata and in rows. Whoever begins one decides by the sample
ratio whether it is recorded; everyone after keeps that decision, so no trace is half there. The flag is
looked at before anything is made: without it there is no OpenTelemetry object, only the text handed on.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from hashlib import blake2b
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, Status, StatusCode

from mesh_core.errors import MeshError
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry.recording import Recorder, context

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ASKED_PER_SECOND = 100
"""Traces that a process records because callers ask for them, and as many at once after a quiet second."""
Attribute = str | bool | int | float
Attributes = Mapping[str, Attribute]


def configure(service: str, settings: TelemetrySettings, *, exporter: SpanExporter | None = None) -> None:
    """Record this process's share of traces as `service`, where there is an endpoint or an `exporter`."""
    if exporter is None and settings.otlp_endpoint:
        from mesh_core.telemetry.exporting import to_collector  # slow, often unused

        exporter = to_collector(settings.otlp_endpoint)
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


def enter(traceparent: str, *, known: bool = True) -> str:
    """The same of a call that enters the mesh. Its caller may ask for a trace to be recorded by the flag, but
    not for more than `ASKED_PER_SECOND` of them, of all callers, where the ratio is below 1; nor at all where
    nobody has to be `known` to call. Of others the flag is cleared: recording costs everybody.
    """
    if traceparent and is_sampled(traceparent) and not (known and _recorder.may_follow(ASKED_PER_SECOND)):
        traceparent = f"{traceparent[:53]}00"
    return begin(traceparent)


def found(cause: str, *, always: bool = False) -> str:
    """The traceparent of what `cause` names: a trace that several processes find by themselves, without
    telling each other of it.

    Whether it is recorded depends on its id alone, so all of them decide alike where their ratios are equal;
    `always`: unless none are.
    """
    ratio = float(_recorder.ratio > 0) if always else _recorder.ratio
    digest = blake2b(cause.encode(), digest_size=24).hexdigest()
    sampled = _recorder.tracer is not None and int(digest[18:32], 16) < ratio * 2**56
    return f"00-{digest[:32]}-{digest[32:]}-{'01' if sampled else '00'}"


class Span:
    """A span that may be recorded. `traceparent` names it to whoever comes after; it must be ended once."""

    __slots__ = ("_inner", "traceparent")

    def __init__(self, inner: trace.Span | None, traceparent: str) -> None:
        self._inner = inner
        self.traceparent = traceparent

    def __enter__(self) -> Self:
        """End it at the end of the block, failed where an exception leaves that."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):  # what was cancelled has not failed
            self.fail(error)
        self.end()

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

    def fail(self, error: Exception | str) -> None:
        """Mark the span as failed, with a text of ours, or by an exception. That is described once, by the
        innermost span that it ends, and by its type alone unless it is of the domain: what others say may
        hold content. Logs have the traceback.
        """
        inner = self._inner
        if inner is None:
            return
        if isinstance(error, str):
            inner.set_status(Status(StatusCode.ERROR, shortened(error)))
            return
        description = None
        if isinstance(error, MeshError):
            inner.set_attribute("error.type", error.reason)
            if not hasattr(error, _DESCRIBED):
                setattr(error, _DESCRIBED, True)
                description = shortened(error.message)
        else:
            inner.set_attribute("error.type", type(error).__qualname__)
        inner.set_status(Status(StatusCode.ERROR, description))

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
    itself: str = "",
) -> Span:
    """A span that the caller ends and that is not current: for work that outlives a block, or after a commit.

    `parent` is a traceparent, "" begins a new trace, None is the current one. `links` are traceparents of
    other traces (a batch's). `start` is in nanoseconds since the epoch. `itself`, in place of `parent`, is
    what the span's own traceparent is to be, as `found` gave it: it begins that trace.
    """
    origin = itself or begin(_current.get() if parent is None else parent)
    tracer = _recorder.tracer
    if tracer is None or origin[54] not in _ODD:
        return Span(None, origin)
    if itself:
        _recorder.give_ids(itself)
    inner = tracer.start_span(
        name,
        None
        if itself or origin.endswith(_ROOT)
        else trace.set_span_in_context(NonRecordingSpan(context(origin))),
        _KINDS[kind],
        attributes,
        [Link(context(link)) for link in links if is_sampled(link) and _well_formed(link)],
        start,
    )
    made = inner.get_span_context()
    return Span(inner, f"00-{made.trace_id:032x}-{made.span_id:016x}-01")


def record_batch(
    name: str, part: str, of: Iterable[str], attributes: Attributes | None = None, *, start: int
) -> None:
    """Record what was done at once for several traces, from `start` (nanoseconds since the epoch) until now:
    a span `part` in each of them that links to a span `name` in a trace of its own, which links to them.

    `of` are traceparents; those that are not recorded are left out.
    """
    sampled = [one for one in of if is_sampled(one)]
    if not sampled or _recorder.tracer is None:
        return
    ended = time.time_ns()
    root = f"00-{random.getrandbits(128) or 1:032x}-{_ROOT}"
    whole = start_span(name, parent=root, attributes=attributes, links=sampled, start=start)
    for one in sampled:
        start_span(part, parent=one, attributes=attributes, links=[whole.traceparent], start=start).end(ended)
    whole.end(ended)


def shortened(text: str) -> str:
    """`text` with the middle of each phone number left out."""
    return _NUMBER.sub(lambda number: f"{number[0][:3]}...{number[0][-2:]}", text)


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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        self._span.__exit__(kind, error, trace)


_well_formed = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_NUMBER = re.compile(r"(?<![A-Za-z0-9_])\+?[0-9]{7,15}(?![A-Za-z0-9_])")
_DESCRIBED = "_described_by_a_span"
_ODD = frozenset("13579bdf")
_ROOT = "0000000000000000-01"  # sampled, and no span yet: never leaves `begin` and `start_span`
_UNRECORDED = "0000000000000001-00"
_KINDS: dict[str, SpanKind] = {kind.name.lower(): kind for kind in SpanKind}
_current: ContextVar[str] = ContextVar("traceparent", default="")
_recorder = Recorder()
