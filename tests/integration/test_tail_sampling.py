"""The collector of deploy/otel keeps what somebody will want to look at, and a share of the rest."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh_cli.embedded import free_port
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry import tracing
from tests.support.eventually import eventually, wait_until
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.support.tools import require_tool

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "otel" / "collector.yaml"
ORDINARY = 2_000


@pytest.fixture(scope="module")
def kept() -> Iterator[OtlpReceiver]:
    """Where the collector sends what it keeps."""
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def collector(kept: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The OTLP endpoint of a collector as it is deployed, which keeps 10 % and decides soon."""
    program, log = require_tool("collector"), tmp_path_factory.mktemp("collector") / "log"
    listen, health = free_port(), free_port()
    environment = os.environ | {
        "COLLECTOR_LISTEN": f"127.0.0.1:{listen}",
        "COLLECTOR_HEALTH": f"127.0.0.1:{health}",
        "COLLECTOR_DECISION_WAIT": "1s",
        "COLLECTOR_PERCENT": "10",
        "COLLECTOR_TRACES": kept.endpoint.removeprefix("http://"),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "--config", CONFIGURATION], env=environment, stdout=output, stderr=output
        )
    try:
        wait_until(
            lambda: process.poll() is not None or b"Everything is ready" in log.read_bytes(), what="collector"
        )
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{listen}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def record(collector: str) -> Iterator[Callable[[], None]]:
    """Record everything, and send it to the collector; the function waits until it is sent."""
    tracing.configure("sessionmesh-test", TelemetrySettings(otlp_endpoint=collector, sample_ratio=1))
    yield tracing.shutdown
    tracing.shutdown()


async def test_traces_with_an_error_slow_ones_moves_and_jobs_are_kept(
    kept: OtlpReceiver, record: Callable[[], None]
) -> None:
    now = time.time_ns()
    with tracing.start_span("failed, above", parent="") as above:
        below = tracing.start_span("failed, below", parent=above.traceparent)
        below.fail("no")
        below.end()
    tracing.start_span("slow", parent="", start=now - 3_000_000_000).end(now)
    for shard in (0, 4095):
        tracing.start_span("move", parent="", attributes={"mesh.shard": shard}).end()
    tracing.start_span("job", parent="", attributes={"mesh.job.id": "job_1"}).end()
    record()
    names = ["failed, above", "failed, below", "job", "move", "move", "slow"]

    def all_came() -> bool:
        return sorted(span.name for span in kept.spans() if span.name not in ("ordinary", "last")) == names

    await eventually(all_came, 20, "the traces to be kept")


async def test_of_ordinary_traces_the_ratio_is_kept_each_whole(
    kept: OtlpReceiver, record: Callable[[], None]
) -> None:
    for _ in range(ORDINARY):
        with tracing.start_span("ordinary", parent="") as above:
            tracing.start_span("ordinary", parent=above.traceparent).end()
    with tracing.start_span("last", parent="") as last:
        last.fail("so that it is kept, and shows that those before it were decided")
    record()

    def whole() -> bool:
        spans = kept.spans("ordinary")
        traces = {span.trace for span in spans}
        return bool(kept.spans("last")) and len(spans) == 2 * len(traces) > 2 * 0.06 * ORDINARY

    await eventually(whole, 20, "the last trace")
    assert len({span.trace for span in kept.spans("ordinary")}) < 0.14 * ORDINARY  # six standard deviations
