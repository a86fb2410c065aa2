"""An OTLP receiver that keeps the latest spans in memory and serves them as Jaeger's query API does."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

LOOPBACK = "127.0.0.1"
KEPT_TRACES = 5_000
KEPT_SPANS_PER_TRACE = 1_000


class TraceStore:
    """The latest KEPT_TRACES traces, as Jaeger's JSON spans by trace id."""

    def __init__(self) -> None:
        self._traces: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()

    def add(self, service: str, span: Span) -> None:
        trace_id = span.trace_id.hex()
        spans = self._traces.setdefault(trace_id, [])
        self._traces.move_to_end(trace_id)
        if len(spans) < KEPT_SPANS_PER_TRACE:
            spans.append(_jaeger_span(service, trace_id, span))
        if len(self._traces) > KEPT_TRACES:
            self._traces.popitem(last=False)

    def get(self, trace_id: str) -> dict[str, Any] | None:
        """One trace in the form of Jaeger's `/api/traces/<id>`, or None."""
        spans = self._traces.get(trace_id)
        if spans is None:
            return None
        services = sorted({span["serviceName"] for span in spans})
        processes = {service: f"p{number}" for number, service in enumerate(services, 1)}
        return {
            "traceID": trace_id,
            "spans": [{**span, "processID": processes[span["serviceName"]]} for span in spans],
            "processes": {process: {"serviceName": service} for service, process in processes.items()},
        }

    def find(self, service: str, least: int, limit: int, *, failed: bool) -> list[dict[str, Any]]:
        """The latest traces, at most `limit`, that have a span of the service, one of `least` microseconds or
        more, and one that failed where that is asked for.
        """
        found: list[dict[str, Any]] = []
        for trace_id in reversed(self._traces):
            if any(_fits(span, service, least, failed=failed) for span in self._traces[trace_id]):
                trace = self.get(trace_id)
                assert trace is not None  # noqa: S101 - it is one of them
                found.append(trace)
                if len(found) == limit:
                    break
        return found


class Collector:
    """OTLP/gRPC in, Jaeger's JSON out, both on free loopback ports."""

    def __init__(self) -> None:
        self.store = TraceStore()
        self.otlp_endpoint = ""
        self.query_url = ""
        self._server: grpc.aio.Server | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])  # belongs to the running loop
        otlp_grpc.add_TraceServiceServicer_to_server(_Receiver(self.store), self._server)  # type: ignore[no-untyped-call] # its stubs lack this
        port = self._server.add_insecure_port(f"{LOOPBACK}:0")
        await self._server.start()
        application = web.Application()
        application.router.add_get("/api/traces/{trace_id}", self._query)
        application.router.add_get("/api/traces", self._search)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        self.otlp_endpoint = f"http://{LOOPBACK}:{port}"
        self.query_url = f"http://{LOOPBACK}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop what was started; the spans are kept."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._server is not None:
            await self._server.stop(grace=None)

    async def _query(self, request: web.Request) -> web.Response:
        trace = self.store.get(request.match_info["trace_id"].lower())
        if trace is None:
            problem = {"code": 404, "msg": "trace not found"}
            return web.json_response({"data": None, "errors": [problem]}, status=404)
        return web.json_response({"data": [trace], "errors": None})

    async def _search(self, request: web.Request) -> web.Response:
        """Of Jaeger's search what `mesh trace` asks for."""
        asked = request.query
        least = asked.get("minDuration", "0s").removesuffix("s")
        found = self.store.find(
            asked.get("service", ""),
            int(float(least) * 1_000_000),
            int(asked.get("limit", "20")),
            failed="error" in asked.get("tags", ""),
        )
        return web.json_response({"data": found, "errors": None})


class _Receiver(otlp_grpc.TraceServiceServicer):
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def Export(
        self,
        request: otlp.ExportTraceServiceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> otlp.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = _service_name(list(resource.resource.attributes))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._store.add(service, span)
        return otlp.ExportTraceServiceResponse()


def _fits(span: dict[str, Any], service: str, least: int, *, failed: bool) -> bool:
    return (
        span["serviceName"] == service
        and span["duration"] >= least
        and (not failed or any(tag["key"] == "error" for tag in span["tags"]))
    )


def _service_name(attributes: list[KeyValue]) -> str:
    return next((a.value.string_value for a in attributes if a.key == "service.name"), "unknown")


def _jaeger_span(service: str, trace_id: str, span: Span) -> dict[str, Any]:
    parents = [("CHILD_OF", trace_id, span.parent_span_id.hex())] if span.parent_span_id else []
    links = [("FOLLOWS_FROM", link.trace_id.hex(), link.span_id.hex()) for link in span.links]
    tags = [{"key": tag.key, "value": _value(tag.value)} for tag in span.attributes]
    if span.status.code == span.status.STATUS_CODE_ERROR:
        tags.append({"key": "error", "value": True})
        tags.append({"key": "otel.status_description", "value": span.status.message})
    return {
        "traceID": trace_id,
        "spanID": span.span_id.hex(),
        "operationName": span.name,
        "references": [
            {"refType": kind, "traceID": trace, "spanID": parent} for kind, trace, parent in parents + links
        ],
        "startTime": span.start_time_unix_nano // 1000,
        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
        "tags": tags,
        "serviceName": service,
    }


def _value(value: AnyValue) -> str | bool | int | float:
    kind = value.WhichOneof("value")
    if kind in ("string_value", "bool_value", "int_value", "double_value"):
        plain: str | bool | int | float = getattr(value, kind)
        return plain
    return str(value)
