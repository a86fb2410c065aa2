"""The webhook service as a process: where it is found, how it ends, who takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceDirectory
from mesh_core.tasks import Supervisor
from sessionmesh.v1.event_pb2 import Event
from tests.support.eventually import eventually
from tests.support.webhook_world import World, client, process, receiver, service


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[World]:
    made = await World.make(postgres_url, etcd, cluster)
    yield made
    await made.pool.close()


async def test_it_is_found_in_etcd_while_it_serves_and_ends_well(
    world: World, etcd: str, cluster: str
) -> None:
    async with Supervisor(lambda _name, error: pytest.fail(repr(error))) as supervisor:
        directory = ServiceDirectory(Etcd.at(etcd), cluster, "webhook", supervisor=supervisor)
        await directory.start()
        async with process(world) as (port, child):

            async def found() -> bool:
                return [one.address for one in directory.services()] == [f"127.0.0.1:{port}"]

            async def gone() -> bool:
                return not directory.services()

            await eventually(found, 60)
            child.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(child.wait(), 30) == 0
            await eventually(gone)


async def test_a_drain_lets_requests_in_flight_end(world: World) -> None:
    async with receiver() as sink:
        sink.gate.clear()
        async with service(world) as running, client(running.port, world.api_key) as api:
            await api.create(sink.url)
            await world.commit(Event(type="a.b"))
            await sink.wait_for(1)
            running.stop.ask("the test drains it")
            sink.gate.set()
        assert await world.pool.fetchval("SELECT state FROM webhook_delivery") == 2
        assert len(sink.requests) == 1


async def test_another_instance_takes_over_from_one_that_was_killed(world: World) -> None:
    async with receiver() as sink, process(world) as (port, child):
        async with client(port, world.api_key) as api:
            await api.create(sink.url)
        await world.commit(Event(type="a.b"))
        await sink.wait_for(1)
        async with service(world):
            await world.commit(Event(type="a.b"))
            await sink.wait_for(2)
            child.kill()
            await child.wait()
            await world.commit(Event(type="a.b"))
            await sink.wait_for(3)
    assert len({request.webhook_id for request in sink.requests}) == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESH_WEBHOOK_RETRY_SCHEDULE", "5,10"),
        ("MESH_WEBHOOK_RETRY_SCHEDULE", "0,-1"),
        ("MESH_WEBHOOK_LEASE_SECONDS", "10"),
        ("MESH_WEBHOOK_IN_FLIGHT", "0"),
    ],
)
async def test_bad_settings_exit_64_and_name_the_variable(variable: str, value: str) -> None:
    environment = {
        "MESH_DATABASE_URL": "postgresql://nowhere/none",
        "MESH_ETCD_ENDPOINTS": "127.0.0.1:1",
        "MESH_SECRETS_MASTER_KEY": "A" * 43 + "=",
        variable: value,
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_webhook",
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await child.communicate()
    assert child.returncode == 64
    assert said.decode().startswith(variable)
