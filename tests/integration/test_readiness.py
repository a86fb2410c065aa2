"""A part whose server is away: it lives, is not ready, says why, and is ready again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_cli import health
from mesh_cli.commands.doctor.findings import Verdict
from mesh_cli.commands.doctor.parts import part_findings
from mesh_cli.commands.running_parts import RunningPart
from mesh_core.rpc.server import readiness
from tests.support.relay import Relay, relay_to
from tests.support.running import Running
from tests.support.webhook_world import World, open_world, service

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
AWAY = "Postgres does not answer"


@pytest_asyncio.fixture(loop_scope="module")
async def postgres(world: World) -> AsyncIterator[Relay]:
    """The part's way to Postgres."""
    async with relay_to(urlsplit(world.environment["MESH_DATABASE_URL"]).netloc.rpartition("@")[2]) as relay:
        yield relay


@pytest_asyncio.fixture(loop_scope="module")
async def world(module_postgres_url: str, etcd: str) -> AsyncIterator[World]:
    async with open_world(module_postgres_url, etcd) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def part(world: World, postgres: Relay, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """The webhook service, for which an outage counts soon."""
    monkeypatch.setattr(readiness, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0.1)
    url = urlsplit(world.environment["MESH_DATABASE_URL"])
    user = url.netloc.rpartition("@")[0]
    direct = url._replace(netloc=f"{user}@{postgres.url}").geturl()
    async with service(world, MESH_DATABASE_URL=direct) as running:
        yield running


async def test_a_part_without_postgres_lives_and_is_not_ready_until_it_is_back(
    part: Running, postgres: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    async with grpc.aio.insecure_channel(part.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"))
        assert (await watch.read()).status == SERVING

        await postgres.cut()
        assert (await watch.read()).status == NOT_SERVING
        for probe, status in (("", SERVING), ("liveness", SERVING), ("startup", SERVING)):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=probe))
            assert answer.status == status, probe
        assert await asyncio.to_thread(health.check, part.address, None) == health.EXIT_NOT_SERVING
        assert f"{part.address} NOT_SERVING: {AWAY}\n" in capsys.readouterr().out
        assert await asyncio.to_thread(health.check, part.address, None, "liveness") == 0
        [found, *_] = await part_findings({"webhook": RunningPart(part.address)}, None)
        assert (found.verdict, found.seen) == (Verdict.WRONG, f"{part.address} NOT_SERVING: {AWAY}")

        await postgres.open()
        assert (await watch.read()).status == SERVING
        watch.cancel()
