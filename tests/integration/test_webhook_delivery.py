"""From an event's commit to a signed request, and what the answer changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import Webhook

from mesh_core import ids
from mesh_core.events import reader
from mesh_core.ids import Prefix
from mesh_webhook.deliveries import dispatcher, owed, parts
from mesh_webhook.events.catalogue import EVENT_TYPES
from sessionmesh.v1 import event_pb2, webhook_pb2
from tests.support.eventually import eventually
from tests.support.running import Running
from tests.support.webhook_world import (
    Client,
    Received,
    Receiver,
    Tenant,
    World,
    client,
    open_world,
    receiver,
    service,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

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


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(world: World) -> AsyncIterator[Running]:
    """A service with a quick retry schedule."""
    async with service(world, **QUICK) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def api(running: Running, tenant: Tenant) -> AsyncIterator[Client]:
    async with client(running.address, tenant.api_key) as made:
        yield made


def event(event_type: str = "message.received", **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(type=event_type, **fields)


async def test_an_event_arrives_signed_and_with_proto_field_names(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    created = await api.create(f"{sink.url}/hook", headers={"x-mine": "yes"})
    [name] = await tenant.commit(event(labels={"team": "a"}))
    [request] = await sink.wait_for(1)

    body = Webhook(created.secret).verify(request.body, dict(request.headers))
    assert body == json.loads(request.body)
    assert body["id"] == name
    assert body["tenant_id"] == tenant.id
    assert body["type"] == "message.received"
    assert {"occur_time", "commit_time", "cursor"} <= body.keys()
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["x-mine"] == "yes"
    assert request.webhook_id.startswith("del_")


async def test_a_commit_wakes_the_fan_out_and_the_dispatcher_without_their_polls(
    tenant: Tenant, sink: Receiver, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_IDLE", 3600.0)
    monkeypatch.setattr(dispatcher, "_POLL_SECONDS", 3600.0)
    await api.create(sink.url)
    for count in range(1, 6):  # the first ones end the waits that had begun with the usual intervals
        await tenant.commit(event())
        await sink.wait_for(count)


@pytest.mark.read_back("ListAttempts")
async def test_a_failed_delivery_is_sent_again_with_the_same_id_and_body(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(status=500 if len(sink.requests) < 3 else 204, text="no")
    created = await api.create(sink.url)
    await tenant.commit(event())
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
    assert [(attempt.number, attempt.http_status) for attempt in answer.attempts] == [
        (1, 500),
        (2, 500),
        (3, 204),
    ]
    assert answer.attempts[0].response_body == b"no"


async def failed(api: Client) -> webhook_pb2.Delivery:
    async def ended() -> list[webhook_pb2.Delivery]:
        return await api.deliveries(state=webhook_pb2.DELIVERY_STATE_FAILED)

    found: list[webhook_pb2.Delivery] = await eventually(ended)
    [delivery] = found
    return delivery


async def test_a_delivery_fails_when_the_schedule_is_used_up(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(status=503)
    await api.create(sink.url)
    await tenant.commit(event())
    delivery = await failed(api)
    assert (delivery.attempts, delivery.last_http_status, delivery.last_error) == (3, 503, "HTTP 503")


async def test_a_redirect_is_a_failure_and_never_followed(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    def answer(_request: Received) -> web.Response:
        return web.Response(status=307, headers={"location": f"{sink.url}/elsewhere"})

    sink.answer = answer
    await api.create(f"{sink.url}/here")
    await tenant.commit(event())
    delivery = await failed(api)
    assert delivery.last_http_status == 307
    assert not sink.to("/elsewhere")


async def test_410_disables_the_endpoint_and_tells_by_an_event(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda request: web.Response(status=410 if request.path == "/gone" else 200)
    gone = await api.create(f"{sink.url}/gone")
    await api.create(f"{sink.url}/watch", event_types=["webhook.*"])
    await tenant.commit(event())
    [told] = await sink.wait_for(1, "/watch")
    assert json.loads(told.body)["endpoint_disabled"]["endpoint_id"] == gone.endpoint.id
    answer = await api.call(
        api.webhooks.GetEndpoint, webhook_pb2.GetEndpointRequest(endpoint_id=gone.endpoint.id)
    )
    assert answer.endpoint.state == webhook_pb2.ENDPOINT_STATE_DISABLED
    assert "410" in answer.endpoint.disable_reason
    await tenant.commit(event())
    await tenant.commit(event("webhook.seen"))
    await sink.wait_for(2, "/watch")
    assert len(sink.to("/gone")) == 1


@pytest.mark.slow
async def test_retry_after_holds_all_of_the_endpoints_deliveries_back(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(
        status=429 if len(sink.requests) == 1 else 200, headers={"retry-after": "1"}
    )
    created = await api.create(sink.url)
    await tenant.commit(event())
    await sink.wait_for(1)

    async def hold_until() -> datetime | None:
        until: datetime | None = await tenant.pool.fetchval(
            "SELECT hold_until FROM webhook_health WHERE endpoint = $1",
            ids.decode(Prefix.ENDPOINT, created.endpoint.id, "id"),
        )
        return until

    held_until = await eventually(hold_until)
    await tenant.commit(event())
    requests = await sink.wait_for(3)
    assert requests[1].webhook_id != requests[2].webhook_id, "both deliveries were attempted"

    async def later_attempts() -> list[datetime] | None:
        query = "SELECT start_time FROM webhook_attempt WHERE delivery = ANY ($1) ORDER BY id"
        deliveries = [ids.decode(Prefix.DELIVERY, one.webhook_id, "id") for one in requests]
        rows = await tenant.pool.fetch(query, deliveries)
        return [row["start_time"] for row in rows[1:]] if len(rows) == 3 else None

    assert all(start >= held_until for start in await eventually(later_attempts))


async def test_only_wanted_types_families_accounts_and_labels_are_delivered(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    other = ids.new_id(Prefix.ACCOUNT)
    await api.create(f"{sink.url}/type", event_types=["message.sent"])
    await api.create(f"{sink.url}/family", event_types=["session.*", "message.sent"])
    await api.create(f"{sink.url}/account", account_ids=[other])
    await api.create(f"{sink.url}/labels", labels={"team": "a"})
    await api.create(f"{sink.url}/all")
    await tenant.commit(
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


async def test_another_tenants_events_are_not_delivered(tenant: Tenant, sink: Receiver, api: Client) -> None:
    await api.create(sink.url)
    await tenant.commit(event("other.tenant", tenant_id=ids.new_id(Prefix.TENANT)))
    await tenant.commit(event("own.tenant"))
    [request] = await sink.wait_for(1)
    assert json.loads(request.body)["type"] == "own.tenant"


async def test_an_endpoint_gets_nothing_from_before_its_creation_and_everything_after(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    await tenant.commit(event("from.before"), notify=False)
    await api.create(sink.url)
    await tenant.commit(event("from.after"))
    [request] = await sink.wait_for(1)
    assert json.loads(request.body)["type"] == "from.after"


async def test_an_endpoint_made_between_two_events_is_not_missed(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    types = sorted(EVENT_TYPES)[:10]
    for count, event_type in enumerate(types, 1):
        await tenant.commit(event("nobody.wants.this"))
        await api.create(sink.url, event_types=[event_type])
        await tenant.commit(event(event_type))
        await sink.wait_for(count)


async def test_a_paused_endpoint_gets_its_deliveries_when_it_is_active_again(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    created = await api.create(sink.url, state=webhook_pb2.ENDPOINT_STATE_PAUSED)
    await tenant.commit(event())
    await eventually(api.deliveries)
    update = webhook_pb2.UpdateEndpointRequest(
        endpoint_id=created.endpoint.id,
        endpoint=webhook_pb2.Endpoint(state=webhook_pb2.ENDPOINT_STATE_ACTIVE),
    )
    update.update_mask.paths.append("state")
    assert not sink.requests
    await api.call(api.webhooks.UpdateEndpoint, update)
    await sink.wait_for(1)


@pytest.mark.slow
async def test_a_rate_limit_spreads_deliveries_without_spending_attempts(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    limited = await api.create(f"{sink.url}/limited", rate_per_second=2)
    await api.create(f"{sink.url}/free")
    await tenant.commit(*[event() for _ in range(5)])
    requests = await sink.wait_for(10)
    assert requests[-1].path == "/limited", "what is over the rate comes later"

    async def all_done() -> bool:
        done = await api.deliveries(
            endpoint_id=limited.endpoint.id, state=webhook_pb2.DELIVERY_STATE_SUCCEEDED
        )
        return [delivery.attempts for delivery in done] == [1] * 5

    await eventually(all_done)


@pytest.mark.read_back("RotateSecret")
async def test_both_secrets_sign_while_they_overlap(tenant: Tenant, sink: Receiver, api: Client) -> None:
    created = await api.create(sink.url)
    rotated = await api.call(
        api.webhooks.RotateSecret,
        webhook_pb2.RotateSecretRequest(request_id="r1", endpoint_id=created.endpoint.id),
    )
    assert rotated.secret != created.secret
    await tenant.commit(event())
    [request] = await sink.wait_for(1)
    for secret in (created.secret, rotated.secret):
        Webhook(secret).verify(request.body, dict(request.headers))


async def test_a_sampled_trace_goes_out_with_the_request(tenant: Tenant, sink: Receiver, api: Client) -> None:
    await api.create(sink.url)
    await tenant.commit(event(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"))
    [request] = await sink.wait_for(1)
    assert request.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


async def test_an_event_without_json_arrives_without_its_payload_and_stops_nothing(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url)
    poison = event()
    poison.message.message.content.appointment.start_time.seconds = 10**15
    [name] = await tenant.commit(poison)
    await tenant.commit(event("message.sent"))
    bodies = {body["type"]: body for body in (json.loads(one.body) for one in await sink.wait_for(2))}
    assert bodies["message.received"]["id"] == name
    assert "start_time" in bodies["message.received"]["unrenderable"]["reason"]
    listed = await api.call(api.events.ListEvents, event_pb2.ListEventsRequest())
    assert [one.type for one in listed.events] == ["message.received", "message.sent"]


async def test_an_event_that_cannot_be_read_arrives_by_its_columns_and_stops_no_stream(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url)
    call = api.stream(event_pb2.SubscribeRequest())
    await call.read()  # the heartbeat: from here on
    [name] = await tenant.commit(event(), body=b"\xff\xff")
    [request] = await sink.wait_for(1)
    assert (json.loads(request.body)["id"], json.loads(request.body)["type"]) == (name, "message.received")
    frame = await call.read()
    call.cancel()
    assert [(one.id, one.unrenderable.stored_event) for one in frame.events.events] == [(name, b"\xff\xff")]


async def test_an_endpoint_whose_secret_cannot_be_opened_fails_alone(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    broken = await api.create(f"{sink.url}/broken")
    await api.create(f"{sink.url}/well")
    await tenant.pool.execute(
        "UPDATE webhook_endpoint SET secret = 'x', version = version + 1 WHERE id = $1",
        ids.decode(Prefix.ENDPOINT, broken.endpoint.id, "id"),
    )
    await tenant.commit(event())
    delivery = await failed(api)
    assert (delivery.endpoint_id, delivery.attempts) == (broken.endpoint.id, 3)
    assert delivery.last_error == "the mesh cannot make this request"
    await tenant.commit(event())
    await sink.wait_for(2, "/well")
    assert not sink.to("/broken")


async def test_text_that_postgres_cannot_store_holds_nothing_up(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url)
    await tenant.commit(event(traceparent="\0", labels={"a": "\0"}))
    [request] = await sink.wait_for(1)
    assert json.loads(request.body)["labels"] == {"a": "\0"}


async def test_an_endpoint_whose_rows_make_a_claim_fail_holds_no_other_up(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    broken = await api.create(f"{sink.url}/broken", rate_per_second=5)
    await api.create(f"{sink.url}/well")
    await tenant.pool.execute(
        "UPDATE webhook_health SET paced_until = 'infinity' WHERE endpoint = $1",
        ids.decode(Prefix.ENDPOINT, broken.endpoint.id, "id"),
    )
    await tenant.commit(event(), event())
    await sink.wait_for(2, "/well")
    assert not sink.to("/broken")
    await tenant.pool.execute("UPDATE webhook_health SET paced_until = NULL")
    await sink.wait_for(2, "/broken")


async def test_endpoints_that_never_answer_keep_no_other_tenant_waiting(
    world: World, tenant: Tenant, sink: Receiver, api: Client, running: Running
) -> None:
    greedy = await world.tenant()
    async with receiver() as hole, client(running.address, greedy.api_key) as theirs:
        hole.gate.clear()
        for _ in range(40):
            await theirs.create(hole.url)
        await api.create(sink.url)
        await greedy.commit(*[event() for _ in range(10)])
        await hole.wait_for(100)  # 400 are due: more than there are slots
        await tenant.commit(event())
        await sink.wait_for(1, timeout=2)
        hole.gate.set()


@pytest.mark.slow
async def test_endpoints_that_change_all_the_time_hold_nothing_up_and_get_everything(
    world: World, tenant: Tenant, sink: Receiver, api: Client, running: Running
) -> None:
    restless = await world.tenant()
    async with client(running.address, restless.api_key) as theirs:
        changing = (await theirs.create(f"{sink.url}/changing")).endpoint
        await api.create(f"{sink.url}/steady")
        update = webhook_pb2.UpdateEndpointRequest(
            endpoint_id=changing.id, endpoint=webhook_pb2.Endpoint(display_name="again")
        )
        update.update_mask.paths.append("display_name")

        async def change() -> None:
            while True:
                await theirs.call(theirs.webhooks.UpdateEndpoint, update)

        changes = [asyncio.create_task(change()) for _ in range(4)]
        for count in range(1, 21):
            await tenant.commit(event())
            await restless.commit(event())
            await sink.wait_for(count, "/steady", timeout=5)
        await sink.wait_for(20, "/changing", timeout=5)
        for task in changes:
            task.cancel()


async def test_an_event_for_more_endpoints_than_a_share_reaches_them_all_and_stops_nobody(
    world: World,
    tenant: Tenant,
    sink: Receiver,
    api: Client,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "MAX_ROWS", 8)
    monkeypatch.setattr(owed, "MAX_ROWS", 3)
    crowded = await world.tenant()
    async with client(running.address, crowded.api_key) as theirs:
        for number in range(10):
            await theirs.create(f"{sink.url}/{number}", labels={"k": "v"} if number % 2 else {})
        await api.create(f"{sink.url}/steady")
        await tenant.commit(event())  # from the next transaction on the bounds are small
        await sink.wait_for(1, "/steady")
        await crowded.commit(*[event(labels={"k": "v"}) for _ in range(3)], event())
        await tenant.commit(event())
        await sink.wait_for(2, "/steady")
        requests = await sink.wait_for(10 * 3 + 5 + 2)
    ids_of = [(one.path, json.loads(one.body)["id"]) for one in requests]
    assert len(set(ids_of)) == len(ids_of)
