"""One trace follows a message through every process."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pyvips

from mesh_cli.demo.receiver import Receiver
from mesh_cli.embedded import free_port
from sessionmesh.v1 import account_pb2, content_pb2
from tests.support.eventually import eventually, wait_until
from tests.support.mesh_api import Caller, Tenant, open_caller, text_message
from tests.support.mesh_process import MeshProcess, run_mesh_here
from tests.support.tools import require_tool

SERVICES = {f"sessionmesh-{part}" for part in ("router", "session-node", "media", "webhook")}
COMMIT = "mesh.journal.commit"
JAEGER_PORTS = (
    "admin.http",
    "query.http-server",
    "query.grpc-server",
    "collector.http-server",
    "collector.grpc-server",
    "collector.otlp.grpc",
    "collector.otlp.http",
    "collector.zipkin",
)


class Jaeger:
    """A Jaeger of `make tools` on ports of its own."""

    def __init__(self, program: Path, log: Path) -> None:
        ports = {name: free_port() for name in JAEGER_PORTS}
        flags = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()]
        self.otlp_endpoint = f"http://127.0.0.1:{ports['collector.otlp.grpc']}"
        self.query_url = f"http://127.0.0.1:{ports['query.http-server']}"
        with log.open("wb") as output:
            self.process = subprocess.Popen([str(program), *flags], stdout=output, stderr=output)
        wait_until(lambda: b'"status":"ready"' in log.read_bytes(), what="Jaeger")

    def stop(self) -> None:
        self.process.kill()  # its own way to stop waits for connections that stay
        self.process.wait()


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[Jaeger]:
    running = Jaeger(require_tool("jaeger"), tmp_path / "jaeger.log")
    yield running
    running.stop()


async def test_a_message_with_a_picture_is_one_trace_through_all_services(
    mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    trace_id = await _send_traced(tenant.caller, account)
    trace = await _until_whole(mesh.file.traces_url, trace_id)
    spans = {span["spanID"]: span for span in trace["spans"]}
    assert {span["traceID"] for span in trace["spans"]} == {trace_id}
    commit = next(span for span in spans.values() if span["operationName"] == COMMIT)
    assert _service(trace, commit) == "sessionmesh-session-node"


async def test_an_unsampled_message_is_not_recorded(
    mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    silent = secrets.token_hex(16)
    message = await tenant.caller(
        tenant.caller.messages.SendMessage,
        text_message(account.id),
        metadata=(("traceparent", f"00-{silent}-{secrets.token_hex(8)}-00"),),
    )
    await tenant.caller.until_delivered(account.id, message.message.id)
    # Once the trace of a later message is whole, the earlier one's spans would have come, too.
    await _until_whole(mesh.file.traces_url, await _send_traced(tenant.caller, account))
    assert await _trace(mesh.file.traces_url, silent) is None


async def test_a_jaeger_gets_the_traces_and_mesh_trace_shows_them(
    jaeger: Jaeger, tmp_state: Path, external_servers: dict[str, str]
) -> None:
    environment = external_servers | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_endpoint,
        "MESH_TELEMETRY_SAMPLE_RATIO": "0",
    }
    traced = MeshProcess(tmp_state / "state", nodes=1, environment=environment)
    try:
        file = traced.start()
        async with open_caller(file.address, file.admin_key) as admin:
            _, caller = await admin.new_tenant()
            account = await caller.new_account()
            await caller.pair(account, admin)
            trace_id = await _send_traced(caller, account)
        await _until_whole(jaeger.query_url, trace_id)
        shown = run_mesh_here("trace", trace_id, "--jaeger", jaeger.query_url)
        assert shown.exit_code == 0, shown.stderr
        for name in ("router", "session-node", "media", "webhook", COMMIT):
            assert name in shown.stdout
        whole = json.loads(run_mesh_here("trace", trace_id, "--jaeger", jaeger.query_url, "--json").stdout)
        assert whole["traceID"] == trace_id
        latest = run_mesh_here("trace", "--last", MESH_JAEGER_URL=jaeger.query_url)
        assert f"SendMessage {trace_id}" in latest.stdout, latest.output
        assert traced.stop().code == 0, traced.report()
    finally:
        traced.ensure_gone()


async def _send_traced(caller: Caller, account: account_pb2.Account) -> str:
    """Send a picture under a trace of our own, with a receiver for its webhooks; the trace's id."""
    trace_id = secrets.token_hex(16)
    async with Receiver() as receiver:
        receiver.secret = await caller.new_endpoint(receiver.url, "message.*")
        media = await caller.upload(_picture(), "picture.png")
        image = content_pb2.ImageContent(media=content_pb2.MediaReference(media_id=media.id))
        request = text_message(account.id)
        request.content.CopyFrom(content_pb2.Content(image=image))
        answer = await caller(
            caller.messages.SendMessage,
            request,
            metadata=(("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"),),
        )
        wanted = answer.message.id

        def told(events: list[dict[str, Any]]) -> bool:
            return any(
                event["type"] == "message.delivered" and event["message_status"]["message_id"] == wanted
                for event in events
            )

        await receiver.until(told, 30)
        assert receiver.received.refused == 0
    return trace_id


async def _until_whole(url: str, trace_id: str) -> dict[str, Any]:
    """The trace, once every service has exported its part."""

    async def whole() -> dict[str, Any] | None:
        trace = await _trace(url, trace_id)
        if trace is None:
            return None
        names = {span["operationName"] for span in trace["spans"]}
        services = {_service(trace, span) for span in trace["spans"]}
        complete = SERVICES.issubset(services) and COMMIT in names
        return trace if complete else None

    return await eventually(whole, 20, f"the whole trace {trace_id} at {url}")


async def _trace(url: str, trace_id: str) -> dict[str, Any] | None:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/api/traces/{trace_id}") as answer:
        if answer.status == 404:
            return None
        body = await answer.json()
        found: dict[str, Any] | None = body["data"][0] if body["data"] else None
        return found


def _service(trace: dict[str, Any], span: dict[str, Any]) -> str:
    return str(trace["processes"][span["processID"]]["serviceName"])


def _picture() -> bytes:
    """A small PNG that no other test has: equal files are stored once."""
    noise = pyvips.Image.gaussnoise(64, 64, seed=secrets.randbelow(2**31)).cast("uchar")
    data: bytes = noise.pngsave_buffer()
    return data
