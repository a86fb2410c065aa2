"""From an event's commit to a signed request, and what the answer changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from mesh_core import ids
from mesh_core.ids import Prefix
from sessionmesh.v1 import event_pb2, webhook_pb2
from tests.support.eventually import eventually
from tests.support.webhook_world import (
    Client,
    Received,
    Receiver,
    World,
    client,
    process,
    receiver,
    service,
)

QUICK = {"MESH_WEBHOOK_RETRY_SCHEDULE": "0,0.05,0.05"}


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[World]:
    made = await World.make(postgres_url, etcd, cluster)
    yield made
    await made.pool.close()


@pytest.fixture
async def sink() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def api(world: World) -> AsyncIterator[Client]:
    """A client of a service with a quick retry schedule."""
    async with service(world, **QUICK) as running, client(running.port, world.api_key) as made:
        yield made


def event(event_type: str = "message.received", **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(type=event_type, **fields)


async def test_an_event_arrives_signed_and_with_proto_field_names(
    world: World, sink: Receiver, api: Client
) -> None:
    created = await api.create(f"{sink.url}/hook", headers={"x-mine": "yes"})
    [name] = await world.commit(event(labels={"team": "a"}))
    [request] = await sink.wait_for(1)

    body = Webhook(created.secret).verify(request.body, dict(request.headers))
    assert body == json.loads(request.body)
    assert body["id"] == name
    assert body["tenant_id"] == world.tenant_id
    assert body["type"] == "message.received"
    assert {"occur_time", "commit_time", "cursor"} <= body.keys()
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["x-mine"] == "yes"
    assert request.webhook_id.startswith("del_")


async def test_a_quiet_service_delivers_within_a_fraction_of_a_second(
    world: World, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url)
    await world.commit(event())
    await sink.wait_for(1)
    delays = []
    for count in range(2, 12):
        await world.commit(event())
        committed = asyncio.get_running_loop().time()
        delays.append((await sink.wait_for(count))[-1].at - committed)
    assert sorted(delays)[len(delays) // 2] < 0.1, delays


async def test_a_failed_delivery_is_sent_again_with_the_same_id_and_body(
    world: World, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(status=500 if len(sink.requests) < 3 else 204, text="no")
    created = await api.create(sink.url)
    await world.commit(event())
    first, second, third = await sink.wait_for(3)
    assert first.webhook_id == second.webhook_id == third.webhook_id
    assert first.body == second.body == third.body
    Webhook(created.secret).verify(third.body, dict(third.headers))

    async def ended() -> list[webhook_pb2.Delivery]:
        return await api.deliveries(state=webhook_pb2.DELIVERY_STATE_SUCCEEDED)

    [delivery] = await eventually(ended)
    assert delivery.id == first.webhook_id
    assert delivery.attempts == 3
    answer = await api.call(
        api.webhooks.ListAttempts, webhook_pb2.ListAttemptsRequest(delivery_id=delivery.id)
    )
    assert [(attempt.number, attempt.status) for attempt in answer.attempts] == [(1, 500), (2, 500), (3, 204)]
    assert answer.attempts[0].response_body == b"no"


async def failed(api: Client) -> webhook_pb2.Delivery:
    async def ended() -> list[webhook_pb2.Delivery]:
        return await api.deliveries(state=webhook_pb2.DELIVERY_STATE_FAILED)

    found: list[webhook_pb2.Delivery] = await eventually(ended)
    [delivery] = found
    return delivery


async def test_a_delivery_fails_when_the_schedule_is_used_up(
    world: World, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(status=503)
    await api.create(sink.url)
    await world.commit(event())
    delivery = await failed(api)
    assert (delivery.attempts, delivery.last_status, delivery.last_error) == (3, 503, "HTTP 503")


async def test_a_redirect_is_a_failure_and_never_followed(world: World, sink: Receiver, api: Client) -> None:
    def answer(_request: Received) -> web.Response:
        return web.Response(status=307, headers={"location": f"{sink.url}/elsewhere"})

    sink.answer = answer
    await api.create(f"{sink.url}/here")
    await world.commit(event())
    delivery = await failed(api)
    assert delivery.last_status == 307
    assert not sink.to("/elsewhere")


async def test_410_disables_the_endpoint_and_tells_by_an_event(
    world: World, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda request: web.Response(status=410 if request.path == "/gone" else 200)
    gone = await api.create(f"{sink.url}/gone")
    await api.create(f"{sink.url}/watch", event_types=["webhook.*"])
    await world.commit(event())
    [told] = await sink.wait_for(1, "/watch")
    assert json.loads(told.body)["endpoint_disabled"]["endpoint_id"] == gone.endpoint.id
    answer = await api.call(
        api.webhooks.GetEndpoint, webhook_pb2.GetEndpointRequest(endpoint_id=gone.endpoint.id)
    )
    assert answer.endpoint.state == webhook_pb2.ENDPOINT_STATE_DISABLED
    assert "410" in answer.endpoint.disable_reason
    await world.commit(event())
    await world.commit(event("webhook.seen"))
    await sink.wait_for(2, "/watch")
    assert len(sink.to("/gone")) == 1


async def test_retry_after_holds_all_of_the_endpoints_deliveries_back(
    world: World, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(
        status=429 if len(sink.requests) == 1 else 200, headers={"retry-after": "1"}
    )
    await api.create(sink.url)
    await world.commit(event())
    [first] = await sink.wait_for(1)

    async def held() -> bool:
        return bool(await world.pool.fetchval("SELECT count(*) FROM webhook_health WHERE hold_until > now()"))

    await eventually(held)
    await world.commit(event())
    requests = await sink.wait_for(3)
    assert requests[1].at - first.at > 0.9


async def test_only_wanted_types_families_accounts_and_labels_are_delivered(
    world: World, sink: Receiver, api: Client
) -> None:
    other = ids.new_id(Prefix.ACCOUNT)
    await api.create(f"{sink.url}/type", event_types=["message.sent"])
    await api.create(f"{sink.url}/family", event_types=["session.*", "message.sent"])
    await api.create(f"{sink.url}/account", account_ids=[other])
    await api.create(f"{sink.url}/labels", labels={"team": "a"})
    await api.create(f"{sink.url}/all")
    await world.commit(
        event("message.sent"),
        event("message.received", account_id=other),
        event("session.state_changed"),
        event("sessions.other", labels={"team": "a", "more": "b"}),
        event("message.received", labels={"team": "b"}),
    )
    await sink.wait_for(10)

    def types(path: str) -> list[str]:
        return sorted(json.loads(request.body)["type"] for request in sink.to(path))

    assert types("/type") == ["message.sent"]
    assert types("/family") == ["message.sent", "session.state_changed"]
    assert types("/account") == ["message.received"]
    assert types("/labels") == ["sessions.other"]
    assert len(types("/all")) == 5


async def test_another_tenants_events_are_not_delivered(world: World, sink: Receiver, api: Client) -> None:
    await api.create(sink.url)
    await world.commit(event("other.tenant", tenant_id=ids.new_id(Prefix.TENANT)))
    await world.commit(event("own.tenant"))
    [request] = await sink.wait_for(1)
    assert json.loads(request.body)["type"] == "own.tenant"


async def test_an_endpoint_gets_nothing_from_before_its_creation_and_everything_after(
    world: World, sink: Receiver, api: Client
) -> None:
    await world.commit(event("from.before"), notify=False)
    await api.create(sink.url)
    await world.commit(event("from.after"))
    [request] = await sink.wait_for(1)
    assert json.loads(request.body)["type"] == "from.after"


async def test_an_endpoint_made_between_two_events_is_not_missed(
    world: World, sink: Receiver, api: Client
) -> None:
    for count in range(1, 11):
        await world.commit(event("nobody.wants.this"))
        await api.create(sink.url, event_types=[f"step.x{'y' * count}"])
        await world.commit(event(f"step.x{'y' * count}"))
        await sink.wait_for(count)


async def test_a_paused_endpoint_gets_its_deliveries_when_it_is_active_again(
    world: World, sink: Receiver, api: Client
) -> None:
    created = await api.create(sink.url, state=webhook_pb2.ENDPOINT_STATE_PAUSED)
    await world.commit(event())
    await eventually(api.deliveries)
    update = webhook_pb2.UpdateEndpointRequest(
        endpoint_id=created.endpoint.id,
        endpoint=webhook_pb2.Endpoint(state=webhook_pb2.ENDPOINT_STATE_ACTIVE),
    )
    update.update_mask.paths.append("state")
    assert not sink.requests
    await api.call(api.webhooks.UpdateEndpoint, update)
    await sink.wait_for(1)


async def test_a_rate_limit_spreads_deliveries_without_spending_attempts(
    world: World, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url, rate_per_second=4)
    await world.commit(*[event() for _ in range(8)])
    requests = await sink.wait_for(8)
    assert requests[-1].at - requests[0].at > 0.8

    async def all_done() -> bool:
        done = await api.deliveries(state=webhook_pb2.DELIVERY_STATE_SUCCEEDED)
        return [delivery.attempts for delivery in done] == [1] * 8

    await eventually(all_done)


async def test_both_secrets_sign_while_they_overlap(world: World, sink: Receiver, api: Client) -> None:
    created = await api.create(sink.url)
    rotated = await api.call(
        api.webhooks.RotateSecret,
        webhook_pb2.RotateSecretRequest(request_id="r1", endpoint_id=created.endpoint.id),
    )
    assert rotated.secret != created.secret
    await world.commit(event())
    [request] = await sink.wait_for(1)
    for secret in (created.secret, rotated.secret):
        Webhook(secret).verify(request.body, dict(request.headers))


async def test_a_sampled_trace_goes_out_with_the_request(world: World, sink: Receiver, api: Client) -> None:
    await api.create(sink.url)
    await world.commit(event(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))
    [request] = await sink.wait_for(1)
    assert request.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


async def test_text_that_postgres_cannot_store_holds_nothing_up(
    world: World, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url)
    await world.commit(event(traceparent="\0", labels={"a": "\0"}))
    [request] = await sink.wait_for(1)
    assert json.loads(request.body)["labels"] == {"a": "\0"}


async def test_a_killed_service_loses_nothing_and_repeats_with_the_same_id_and_body(
    world: World, sink: Receiver
) -> None:
    quick = {"MESH_WEBHOOK_LEASE_SECONDS": "3", "MESH_WEBHOOK_TIMEOUT_SECONDS": "2"}
    sink.gate.clear()
    async with process(world, **quick) as (port, child), client(port, world.api_key) as api:
        created = await api.create(sink.url)
        await world.commit(event(), event())
        await sink.wait_for(2)
        child.kill()
        await child.wait()
    sink.gate.set()
    async with service(world, **quick):
        requests = await sink.wait_for(4)
    before, after = (
        sorted(requests[part], key=lambda one: one.webhook_id) for part in (slice(2), slice(2, 4))
    )
    assert [(one.webhook_id, one.body) for one in before] == [(one.webhook_id, one.body) for one in after]
    for request in requests:
        Webhook(created.secret).verify(request.body, dict(request.headers))


async def test_events_committed_while_no_service_runs_are_delivered_later(
    world: World, sink: Receiver
) -> None:
    async with service(world) as running, client(running.port, world.api_key) as api:
        await api.create(sink.url)
    await world.commit(event(), event())
    async with service(world):
        assert len({request.webhook_id for request in await sink.wait_for(2)}) == 2


async def test_two_instances_deliver_each_event_once(world: World, sink: Receiver) -> None:
    async with (
        service(world, **QUICK) as one,
        service(world, **QUICK),
        client(one.port, world.api_key) as api,
    ):
        await api.create(sink.url)
        for _ in range(20):
            await world.commit(*[event() for _ in range(5)])
        await sink.wait_for(100)

        async def all_done() -> bool:
            return len(await api.deliveries(state=webhook_pb2.DELIVERY_STATE_SUCCEEDED)) == 100

        await eventually(all_done)
    assert len({request.webhook_id for request in sink.requests}) == len(sink.requests) == 100
