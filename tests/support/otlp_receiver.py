"""A server that takes spans as Jaeger or a collector does, and keeps them for a test to look at."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span, with the service and the process (`instance`) that recorded it. Ids are hex; `links` are pairs
    of trace and span.
    """

    service: str
    instance: str
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, str | bool | int | float]
    links: tuple[tuple[str, str], ...]
    failed: bool
    description: str


class OtlpReceiver(otlp_grpc.TraceServiceServicer):
    """What came so far. It is filled from threads of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []
        self.endpoint = ""

    def Export(
        self, request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> otlp.ExportTraceServiceResponse:
        came = [
            _received(_attributes(resource.resource.attributes), span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += came
        return otlp.ExportTraceServiceResponse()

    def spans(self, name: str = "", trace: str = "", /, **attributes: str | int) -> list[ReceivedSpan]:
        """Those with this name, of this trace, with these attributes (`a_b` for `a.b`), by their start."""
        wanted = {key.replace("_", "."): value for key, value in attributes.items()}
        with self._lock:
            found = [
                span
                for span in self._spans
                if (not name or span.name == name)
                and (not trace or span.trace == trace)
                and wanted.items() <= span.attributes.items()
            ]
        return sorted(found, key=lambda span: span.start)

    def outline(self, trace: str) -> list[str]:
        """The trace's spans as a tree, a line each, children in the order of their names: "  service name".
        A span whose parent has not come begins a tree of its own.
        """
        spans = self.spans("", trace)
        known = {span.id for span in spans}
        return list(_lines(spans, [span for span in spans if span.parent not in known], 0))


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """On a free port of loopback."""
    receiver = OtlpReceiver()
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    otlp_grpc.add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]  # its stubs lack this
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    receiver.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        server.stop(grace=None)


def _lines(spans: list[ReceivedSpan], level: list[ReceivedSpan], depth: int) -> Iterator[str]:
    for span in sorted(level, key=lambda span: (span.name, span.start)):
        yield f"{'  ' * depth}{span.service.removeprefix('sessionmesh-')} {span.name}"
        yield from _lines(spans, [child for child in spans if child.parent == span.id], depth + 1)


def _received(resource: dict[str, Any], span: trace_pb2.Span) -> ReceivedSpan:
    return ReceivedSpan(
        resource["service.name"],
        resource["service.instance.id"],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        span.status.message,
    )


def _attributes(given: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in given}
