"""`mesh doctor`: where traces go. Nothing else suffers when it is away."""

from __future__ import annotations

from urllib.parse import urlsplit

import grpc
from grpc.aio import AioRpcError
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

from mesh_cli.commands.doctor.findings import Finding, good, warning
from mesh_core.settings import TelemetrySettings

SUBJECT = "collector"
ANSWER_SECONDS = 3.0


async def check_collector(settings: TelemetrySettings) -> list[Finding]:
    """Send it no spans."""
    at = urlsplit(settings.otlp_endpoint)
    place = at.netloc
    options = (("grpc.enable_http_proxy", 0),)  # as the parts ask it
    channel = (
        grpc.aio.secure_channel(place, grpc.ssl_channel_credentials(), options=options)
        if at.scheme == "https"
        else grpc.aio.insecure_channel(place, options=options)
    )
    async with channel:
        try:
            stub = otlp_grpc.TraceServiceStub(channel)  # type: ignore[no-untyped-call]
            await stub.Export(otlp.ExportTraceServiceRequest(), timeout=ANSWER_SECONDS)
        except AioRpcError as error:
            remedy = "Traces are lost meanwhile, nothing else. It must speak OTLP over gRPC (port 4317)."
            return [warning(SUBJECT, f"{place} {error.code().name}: {error.details()}", remedy)]
    return [good(SUBJECT, f"{place} takes spans")]
