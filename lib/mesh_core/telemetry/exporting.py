"""Where spans go. A collector that is away costs traces, and two lines of the log, however long it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.grpc import exporter as otlp
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from mesh_core.settings.secrets import without_password

logger = structlog.get_logger(__name__)

SECONDS = 5.0
"""How long a batch may take, attempts that failed included."""


class ToldOnce(SpanExporter):
    """Says when batches begin to fail, and when they no longer do: each of them would be thousands a day."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the exporter does."""
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            logger.warning("traces are lost: the collector takes none", endpoint=self._endpoint)
        elif self._failing and not failed:
            logger.info("traces are kept again", endpoint=self._endpoint)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """As the exporter does."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """As the exporter does."""
        return self._exporter.force_flush(timeout_millis)


def to_collector(endpoint: str) -> SpanExporter:
    """What sends spans to a collector that speaks OTLP over gRPC at that URL."""
    logging.getLogger(otlp.__name__).addFilter(_details)
    # http_proxy in the environment is not meant for the mesh's own servers.
    direct: Any = (("grpc.enable_http_proxy", 0),)  # numbers, too, whatever its annotation says
    insecure = not endpoint.startswith("https://")
    exporter = OTLPSpanExporter(endpoint, insecure=insecure, timeout=SECONDS, channel_options=direct)
    return ToldOnce(exporter, without_password(endpoint))


def _details(record: logging.LogRecord) -> bool:
    """The library has several lines for each batch, for whoever asks for its details."""
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
