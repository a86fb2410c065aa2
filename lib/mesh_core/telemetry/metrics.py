"""Metrics: the default prometheus_client registry, the RPC histogram, and the page that shows them.

Names follow OpenTelemetry's semantic conventions in their Prometheus form. Other modules declare their own
counters and gauges with prometheus_client at import.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Thread

from grpc import StatusCode
from prometheus_client import REGISTRY, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from mesh_core.errors import StartupError
from mesh_core.telemetry.page_server import PageServer


class MethodDurations:
    """Durations of one method's calls. `observe` takes half a microsecond: it is on every call's way."""

    __slots__ = ("_by_code", "_method", "_service")

    def __init__(self, service: str, method: str) -> None:
        self._service = service
        self._method = method
        self._by_code: dict[StatusCode, _Buckets] = {}

    def observe(self, code: StatusCode, seconds: float) -> None:
        """Count one call; only the event loop's thread may call this."""
        buckets = self._by_code.get(code)
        if buckets is None:
            buckets = self._by_code[code] = _Buckets()
        buckets.counts[bisect_left(_BOUNDS, seconds)] += 1
        buckets.total += seconds

    def collect(self, family: HistogramMetricFamily) -> None:
        """Add this method's samples."""
        for code, buckets in list(self._by_code.items()):
            running, samples = 0, []
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), tuple(buckets.counts), strict=True):
                running += count
                samples.append((bound, running))
            labels = ["grpc", self._service, self._method, str(code.value[0])]
            family.add_metric(labels, samples, buckets.total)


def durations(service: str, method: str) -> MethodDurations:
    """The process's one histogram of that method."""
    return _collector.methods.setdefault((service, method), MethodDurations(service, method))


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """The running /metrics page."""

    port: int
    _server: PageServer

    def close(self) -> None:
        """Stop answering, within half a second: the standard library's server looks up only that often."""
        Thread(target=self._close, name="metrics page closing", daemon=True).start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def serve_metrics(listen: str) -> MetricsPage:
    """Answer /metrics on `listen` (host:port) from a thread; raises `StartupError` on a taken port."""
    host, _, port = listen.rpartition(":")
    try:
        server = PageServer(host.strip("[]"), int(port))
    except OSError as error:
        raise StartupError(f"metrics cannot be served on {listen}: {error.strerror}") from None
    return MetricsPage(server.server_port, server)


def describe_process(service: str, version: str) -> None:
    """Say on the page whose metrics these are."""
    _target.labels(service, version).set(1)


@dataclass(slots=True)
class _Buckets:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    total: float = 0.0


class _RpcCollector(Collector):
    """Builds the histogram when it is asked for; prometheus_client's own takes a lock per bucket and call."""

    def __init__(self) -> None:
        self.methods: dict[tuple[str, str], MethodDurations] = {}

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield self._family()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = self._family()
        for method in list(self.methods.values()):
            method.collect(family)
        yield family

    @staticmethod
    def _family() -> HistogramMetricFamily:
        return HistogramMetricFamily(
            "rpc_server_duration_seconds",
            "Duration of inbound calls",
            labels=["rpc_system", "rpc_service", "rpc_method", "rpc_grpc_status_code"],
        )


_BOUNDS: tuple[float, ...] = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
_target = Gauge("target_info", "The process behind this page", ["service_name", "service_version"])
_collector = _RpcCollector()
REGISTRY.register(_collector)
