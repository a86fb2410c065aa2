"""A part whose server is away: it lives, is not ready, says why, and is ready again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
import pytest
import pytest_asyncio
from aiohttp import ClientSession
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_cli import health
from mesh_cli.commands.doctor.findings import Verdict
from mesh_cli.commands.doctor.parts import part_findings
from mesh_cli.commands.running_parts import RunningPart
from mesh_cli.embedded import free_port
from mesh_core.rpc.server import readiness
from mesh_core.settings import read
from mesh_media.__main__ import main as media
from mesh_media.settings import MediaServiceSettings
from tests.support.eventually import eventually
from tests.support.relay import Relay, relay_to
from tests.support.running import Running, running
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


@pytest.fixture(autouse=True)
def outages_count_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0.1)


@pytest_asyncio.fixture(loop_scope="module")
async def part(world: World, postgres: Relay) -> AsyncIterator[Running]:
    """The webhook service."""
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


async def test_media_without_its_store_is_not_ready_and_says_so_to_probes(
    world: World, cluster: str, tmp_path: Path
) -> None:
    objects, metrics = tmp_path / "objects", free_port()
    environment = {
        **world.environment,
        "MESH_CLUSTER_NAME": cluster,
        "MESH_OBJECTS_URL": objects.as_uri(),
        "MESH_SERVER_METRICS_LISTEN": f"127.0.0.1:{metrics}",
    }

    async def probed(path: str) -> tuple[int, str]:
        async with ClientSession() as http, http.get(f"http://127.0.0.1:{metrics}{path}") as answer:
            return answer.status, (await answer.text()).strip()

    async def until_ready(*expected: object) -> None:
        async def reached() -> bool:
            return await probed("/readyz") == expected

        await eventually(reached, what=f"/readyz {expected}")

    async with running("media", media, read(MediaServiceSettings, environment)):
        await until_ready(200, "ok")
        objects.rename(tmp_path / "elsewhere")
        await until_ready(503, "the folder of objects is gone, or not to be written to")
        assert await probed("/healthz") == (200, "ok")
        (tmp_path / "elsewhere").rename(objects)
        await until_ready(200, "ok")
