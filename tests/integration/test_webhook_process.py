"""The webhook service as a process: where it is found, how it ends, who takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceDirectory
from mesh_core.tasks import Supervisor
from sessionmesh.v1 import webhook_pb2
from sessionmesh.v1.event_pb2 import Event
from tests.support.eventually import eventually
from tests.support.webhook_world import (
    Receiver,
    Tenant,
    World,
    client,
    open_world,
    process,
    receiver,
    service,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

QUICK = {"MESH_WEBHOOK_RETRY_SCHEDULE": "0,0.05,0.05"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(module_postgres_url: str, etcd: str) -> AsyncIterator[World]:
    async with open_world(module_postgres_url, etcd) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: World) -> Tenant:
    return await world.tenant()


@pytest_asyncio.fixture(loop_scope="module")
async def sink() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def event() -> Event:
    return Event(type="message.received")


async def test_it_is_found_in_etcd_while_it_serves_and_ends_well(world: World, etcd: str) -> None:
    async with (
        Supervisor(lambda _name, error: pytest.fail(repr(error))) as supervisor,
        process(world) as started,
    ):
        directory = ServiceDirectory(Etcd.at(etcd), started.cluster, "webhook", supervisor=supervisor)
        await directory.start()
        address = await started.address()
        await eventually(lambda: [one.address for one in directory.services()] == [address])
        started.child.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await started.child.wait() == 0
        await eventually(lambda: not directory.services())


async def test_a_drain_lets_requests_in_flight_end(world: World, tenant: Tenant, sink: Receiver) -> None:
    sink.gate.clear()
    async with service(world) as running, client(running.address, tenant.api_key) as api:
        await api.create(sink.url)
        await tenant.commit(event())
        await sink.wait_for(1)
        running.stop.ask("the test drains it")
        sink.gate.set()
    state = await world.pool.fetchval("SELECT state FROM webhook_delivery WHERE tenant = $1", tenant.uuid)
    assert state == webhook_pb2.DELIVERY_STATE_SUCCEEDED
    assert len(sink.requests) == 1


async def test_another_instance_takes_over_from_one_that_was_killed(
    world: World, tenant: Tenant, sink: Receiver
) -> None:
    async with process(world) as first:
        async with client(await first.address(), tenant.api_key) as api:
            await api.create(sink.url)
        await tenant.commit(event())
        await sink.wait_for(1)
        async with service(world):
            await tenant.commit(event())
            await sink.wait_for(2)
            first.child.kill()
            await first.child.wait()
            await tenant.commit(event())
            await sink.wait_for(3)
    assert len({request.webhook_id for request in sink.requests}) == 3


async def test_a_killed_service_loses_nothing_and_repeats_with_the_same_id_and_body(
    world: World, tenant: Tenant, sink: Receiver
) -> None:
    sink.gate.clear()
    async with process(world) as killed, client(await killed.address(), tenant.api_key) as api:
        created = await api.create(sink.url)
        await tenant.commit(event(), event())
        await sink.wait_for(2)
        killed.child.kill()
        await killed.child.wait()
    sink.gate.set()
    # The claims lapse.
    await tenant.pool.execute("UPDATE webhook_delivery SET due_at = now() WHERE tenant = $1", tenant.uuid)
    await tenant.pool.execute("UPDATE webhook_queue SET due_at = now() WHERE tenant = $1", tenant.uuid)
    async with service(world):
        requests = await sink.wait_for(4)
    before, after = (
        sorted(requests[part], key=lambda one: one.webhook_id) for part in (slice(2), slice(2, 4))
    )
    assert [(one.webhook_id, one.body) for one in before] == [(one.webhook_id, one.body) for one in after]
    for request in requests:
        Webhook(created.secret).verify(request.body, dict(request.headers))


async def test_events_committed_while_no_service_runs_are_delivered_later(
    world: World, tenant: Tenant, sink: Receiver
) -> None:
    async with service(world) as running, client(running.address, tenant.api_key) as api:
        await api.create(sink.url)
    await tenant.commit(event(), event())
    async with service(world):
        assert len({request.webhook_id for request in await sink.wait_for(2)}) == 2


async def test_two_instances_deliver_each_event_once(world: World, tenant: Tenant, sink: Receiver) -> None:
    async with (
        service(world, **QUICK) as one,
        service(world, **QUICK),
        client(one.address, tenant.api_key) as api,
    ):
        await api.create(sink.url)
        for _ in range(20):
            await tenant.commit(*[event() for _ in range(5)])
        await sink.wait_for(100)

        async def all_done() -> bool:
            return len(await api.deliveries(state=webhook_pb2.DELIVERY_STATE_SUCCEEDED)) == 100

        await eventually(all_done)
    assert len({request.webhook_id for request in sink.requests}) == len(sink.requests) == 100


async def test_bad_settings_exit_64_and_name_the_variable(world: World) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh_webhook",
        env={**os.environ, **world.environment, "MESH_WEBHOOK_IN_FLIGHT": "0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await child.communicate()
    assert child.returncode == 64
    assert said.decode().startswith("MESH_WEBHOOK_IN_FLIGHT")
