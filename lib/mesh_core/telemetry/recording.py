"""The process's recorder of spans: OpenTelemetry's SDK, which is made only where something is recorded."""

from __future__ import annotations

import os
import random
import socket
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter


class Recorder:
    """`tracer` is None while nothing is recorded. `ratio` is the share of new traces that are."""

    def __init__(self) -> None:
        self.tracer: trace.Tracer | None = None
        self.ratio = 0.0
        self._provider: TracerProvider | None = None
        self._ids = _GivenIds()
        self._left = 0.0
        self._looked_at = 0.0

    def may_follow(self, per_second: int) -> bool:
        """Whether one more trace is recorded as its caller asks; all are where the ratio is 1."""
        if self.ratio >= 1 or self.tracer is None:
            return True
        now = monotonic()
        self._left = min(per_second, self._left + (now - self._looked_at) * per_second)
        self._looked_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def start(self, service: str, ratio: float, exporter: SpanExporter) -> None:
        """Record this process's spans as those of `service`."""
        from opentelemetry.sdk.resources import Resource  # the SDK is slow to import, and often unused
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self.stop()
        resource = Resource.create(
            {
                "service.namespace": "sessionmesh",
                "service.name": service,
                "service.version": version("sessionmesh"),
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            }
        )
        # Sampling is decided by the flag before a span is asked for, so the SDK records all it is asked for.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            id_generator=self._ids,  # type: ignore[arg-type]  # it has the two methods, without the slow import
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=_MOST_WAITING, schedule_delay_millis=_EXPORT_EVERY)
        )
        self.tracer = self._provider.get_tracer("sessionmesh")
        self.ratio = ratio

    def stop(self) -> None:
        """Export what waits, and record nothing more."""
        self.tracer = None
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = None

    def give_ids(self, traceparent: str) -> None:
        """The next span that begins a trace has the ids of this well-formed traceparent."""
        self._ids.given = context(traceparent)


class _GivenIds:
    """Random ids, as OpenTelemetry's own generator makes them, but for a span that is to have others."""

    def __init__(self) -> None:
        self.given: SpanContext | None = None

    def generate_trace_id(self) -> int:
        """Asked for before the span's id, and only where a trace begins."""
        return self.given.trace_id if self.given is not None else random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        given, self.given = self.given, None
        return given.span_id if given is not None else random.getrandbits(64) or 1

    def is_trace_id_random(self) -> bool:
        return True


def context(traceparent: str) -> SpanContext:
    """Of a well-formed traceparent."""
    trace_id, span_id = int(traceparent[3:35], 16), int(traceparent[36:52], 16)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


_EXPORT_EVERY = 1000.0  # milliseconds: traces are looked at right after they were made
_MOST_WAITING = 8_192  # spans; when a node is lost, its shards move within a second
