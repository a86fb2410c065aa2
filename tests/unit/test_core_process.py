"""Background tasks, logs, metrics and channels: what every service's process is made of."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import structlog
from prometheus_client import REGISTRY

from mesh_core import ids
from mesh_core.errors import StartupError
from mesh_core.ids import Prefix
from mesh_core.process import logs
from mesh_core.rpc.channels import ChannelPool, call_metadata, mesh_metadata
from mesh_core.settings import TelemetrySettings
from mesh_core.tasks import Supervisor
from mesh_core.telemetry import metrics_page, rpc_metrics, tracing
from mesh_core.telemetry.redaction import Redaction

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


async def test_a_task_that_fails_is_reported_with_its_name_and_reason() -> None:
    failed: asyncio.Future[tuple[str, BaseException]] = asyncio.get_running_loop().create_future()
    reason = RuntimeError("broken")

    async def work() -> None:
        raise reason

    async with Supervisor(lambda name, error: failed.set_result((name, error))) as supervisor:
        with structlog.testing.capture_logs() as entries:
            supervisor.start("poller", work())
            assert await failed == ("poller", reason)
    assert entries[0]["task"] == "poller"
    assert entries[0]["exc_info"] is reason


async def test_a_task_that_ends_or_is_cancelled_is_no_failure() -> None:
    failures: list[str] = []

    async def work() -> None:
        return None

    supervisor = Supervisor(lambda name, _error: failures.append(name))
    ended = supervisor.start("short", work())
    endless = supervisor.start("endless", asyncio.Event().wait())
    await ended
    endless.cancel()
    await asyncio.wait([endless])
    await supervisor.close()
    assert failures == []


async def test_closing_ends_the_youngest_first_and_waits_for_each() -> None:
    ended: list[str] = []
    started = [asyncio.Event(), asyncio.Event()]

    async def work(name: str, event: asyncio.Event) -> None:
        event.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async with Supervisor(lambda _name, _error: None) as supervisor:
        supervisor.start("first", work("first", started[0]))
        supervisor.start("second", work("second", started[1]))
        for event in started:
            await event.wait()
    assert ended == ["second", "first"]


@pytest.mark.usefixtures("logging_put_back")
def test_logs_are_json_with_the_trace_and_without_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("sessionmesh-test", TelemetrySettings(log_format="json"), Redaction())
    tracing.adopt(TRACEPARENT)
    secret = "hunter" + "2"  # built at run time, so that no source line of the traceback holds it
    try:
        raise ValueError(len(secret))
    except ValueError:
        structlog.get_logger("test").exception("call failed", account="acc_1")
    finally:
        tracing.adopt("")
    entry = json.loads(capsys.readouterr().err)
    assert entry["event"] == "call failed"
    assert entry["service"] == "sessionmesh-test"
    assert entry["account"] == "acc_1"
    assert entry["trace_id"] == TRACEPARENT[3:35]
    assert entry["span_id"] == TRACEPARENT[36:52]
    assert entry["exception"][0]["exc_type"] == "ValueError"
    assert "hunter2" not in json.dumps(entry)


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(
        f"rpc_server_call_duration_seconds_{name}", {"rpc_system_name": "grpc", **labels}
    )


def test_durations_are_a_cumulative_histogram_by_method_and_code() -> None:
    method = rpc_metrics.served("/test.Histogram/Call")
    assert rpc_metrics.served("/test.Histogram/Call") is method
    for seconds in (0.0004, 0.0005, 0.003, 60.0):
        method.observe(grpc.StatusCode.OK, seconds)
    method.observe(grpc.StatusCode.NOT_FOUND, 0.001)
    labels = {"rpc_method": "test.Histogram/Call", "rpc_response_status_code": "OK"}
    assert sample("bucket", le="0.0005", **labels) == 2
    assert sample("bucket", le="0.005", **labels) == 3
    assert sample("bucket", le="10.0", **labels) == 3
    assert sample("bucket", le="+Inf", **labels) == 4
    assert sample("count", **labels) == 4
    assert sample("sum", **labels) == pytest.approx(60.0039)
    assert sample("count", **labels | {"rpc_response_status_code": "NOT_FOUND"}) == 1


def test_a_taken_metrics_port_is_a_startup_error() -> None:
    page = metrics_page.serve_metrics("127.0.0.1:0", str, str)
    try:
        with pytest.raises(StartupError, match=f"127.0.0.1:{page.port}"):
            metrics_page.serve_metrics(f"127.0.0.1:{page.port}", str, str)
    finally:
        page.close()


def test_the_mesh_names_the_tenant_it_acts_for() -> None:
    tenant = ids.new_uuid()
    assert mesh_metadata("key") == (("authorization", "Bearer key"),)
    assert ("x-mesh-tenant", ids.encode(Prefix.TENANT, tenant)) in mesh_metadata("key", tenant)


def test_a_call_carries_the_trace_and_the_account() -> None:
    assert call_metadata() == ()
    tracing.adopt(TRACEPARENT)
    try:
        assert call_metadata(mesh_metadata("key"), account_id="acc_1") == (
            ("authorization", "Bearer key"),
            ("traceparent", TRACEPARENT),
            ("x-account-id", "acc_1"),
        )
    finally:
        tracing.adopt("")


async def test_a_pool_has_one_channel_per_address_until_it_is_discarded() -> None:
    pool = ChannelPool()
    channel = pool.get("127.0.0.1:1")
    assert pool.get("127.0.0.1:1") is channel
    assert pool.get("127.0.0.1:2") is not channel
    await pool.discard("127.0.0.1:1")
    assert pool.get("127.0.0.1:1") is not channel
    await pool.close()


def test_the_pinned_grpc_still_knows_the_experiment_that_is_switched_off() -> None:
    def complaints(experiments: str) -> str:
        script = "import grpc; grpc.insecure_channel('127.0.0.1:1').close()"
        return subprocess.run(
            [sys.executable, "-c", script],
            env={"GRPC_EXPERIMENTS": experiments, "GRPC_VERBOSITY": "INFO"},
            capture_output=True,
            text=True,
            check=True,
        ).stderr

    assert "nknown experiment" in complaints("-no_such_experiment")
    assert "nknown experiment" not in complaints("-event_engine_poller_for_python")


def test_programs_start_without_handlers_of_grpc_that_may_wait_for_ever(tmp_path: Path) -> None:
    script = """
import asyncio, os, mesh_core, grpc.aio, uvloop

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    call = grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary("/nobody/Serves")
    for _ in range(10):
        calls = asyncio.gather(*(call(b"") for _ in range(5)), return_exceptions=True)
        program = await asyncio.create_subprocess_exec("true")
        assert await program.wait() == 0
        await calls
    os._exit(0)

uvloop.run(main())
"""
    said = tmp_path / "said"
    environment = {**os.environ, "GRPC_VERBOSITY": "INFO"}
    with said.open("w") as output:  # no pipe: a fork that hangs would keep it open
        subprocess.run([sys.executable, "-c", script], env=environment, stderr=output, check=True, timeout=60)
    assert "fork() handlers" not in said.read_text()
