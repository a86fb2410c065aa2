"""The mesh's calls, files and traces, and what it sends to the world, use no proxy of the environment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc.aio
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh_core.etcd import Etcd
from mesh_core.ids import new_uuid
from mesh_core.rpc.channels import open_channel
from mesh_core.settings import StoreSettings, TelemetrySettings
from mesh_core.telemetry import tracing
from mesh_media.stores.named_stores import open_store
from mesh_session_node.journal import AccountRef
from mesh_session_node.outbound.link_previews import LinkPreviews
from mesh_webhook.deliveries.http_sender import HttpSender, OutgoingRequest
from mesh_webhook.deliveries.settings import WebhookSettings
from tests.conftest import S3
from tests.support.otlp_receiver import otlp_receiver

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOBODY)
        monkeypatch.setenv(name.upper(), NOBODY)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A web server with one page, which takes whatever is posted."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<title>A page</title>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/", page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_calls_between_parts_are_direct() -> None:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop(None)


async def test_calls_to_etcd_are_direct(etcd: str) -> None:
    client = Etcd.at(etcd)
    assert await client.get(b"/no-proxy/nothing") is None
    await client.close()


@pytest.mark.slow
async def test_files_go_to_the_store_directly(s3: S3) -> None:
    settings = StoreSettings(
        url="s3://no-proxy", endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key
    )
    store = await open_store(settings)
    await store.put("tenant/file", b"bytes")
    assert await store.size("tenant/file") == 5


def test_spans_go_to_the_collector_directly() -> None:
    with otlp_receiver() as collector:
        endpoint = TelemetrySettings(sample_ratio=1.0, otlp_endpoint=collector.endpoint)
        tracing.configure("service", endpoint)
        with tracing.span("mesh.node.send"):
            pass
        tracing.shutdown()
        assert [span.name for span in collector.spans()] == ["mesh.node.send"]


async def test_webhooks_are_posted_directly(site: str) -> None:
    settings = WebhookSettings(
        retry_schedule=(0,),
        timeout_seconds=3,
        lease_seconds=10,
        allow_http=True,
        allow_private_addresses=True,
    )
    async with HttpSender(settings) as sender:
        result = await sender.send(OutgoingRequest(site, {}, "del_1", b"{}", [b"k" * 24]))
    assert result.status == 200, result.error


async def test_pages_for_previews_are_read_directly(site: str) -> None:
    async with LinkPreviews(allow_private_addresses=True) as previews:
        preview = await previews.read(site, AccountRef(new_uuid(), new_uuid(), 1, 1))
    assert preview is not None
    assert preview.title == "A page"
