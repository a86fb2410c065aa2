"""WebhookService: endpoints and deliveries through the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from mesh_core import ids
from mesh_core.errors import InvalidField, MeshError
from mesh_core.ids import Prefix
from mesh_core.rpc.server.status import from_rpc_error
from mesh_webhook.deliveries import delivery_store
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import webhook_pb2 as pb
from tests.support.eventually import eventually
from tests.support.webhook_world import (
    ADMIN_KEY,
    Client,
    Receiver,
    Tenant,
    World,
    client,
    open_world,
    receiver,
    service,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
async def address(world: World) -> AsyncIterator[str]:
    async with service(world, MESH_WEBHOOK_RETRY_SCHEDULE="0,0.05") as running:
        yield running.address


@pytest_asyncio.fixture(loop_scope="module")
async def api(tenant: Tenant, address: str) -> AsyncIterator[Client]:
    async with client(address, tenant.api_key) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def admin(address: str) -> AsyncIterator[Client]:
    async with client(address, ADMIN_KEY) as made:
        yield made


async def refused(call: Awaitable[Any]) -> MeshError:
    """The error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def creation(url: str, request_id: str = "r", **fields: Any) -> pb.CreateEndpointRequest:
    return pb.CreateEndpointRequest(request_id=request_id, endpoint=pb.Endpoint(url=url, **fields))


@pytest.mark.read_back("CreateEndpoint", "GetEndpoint", "UpdateEndpoint", "DeleteEndpoint")
async def test_an_endpoint_is_created_read_changed_and_deleted(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    account = ids.new_id(Prefix.ACCOUNT)
    created = await api.create(
        sink.url,
        display_name="mine",
        event_types=["message.*"],
        account_ids=[account],
        labels={"a": "b"},
        headers={"x-a": "b"},
        rate_per_second=5,
    )
    endpoint = created.endpoint
    assert created.secret.startswith("whsec_")
    assert endpoint.tenant_id == tenant.id
    assert (endpoint.display_name, list(endpoint.event_types), list(endpoint.account_ids)) == (
        "mine",
        ["message.*"],
        [account],
    )
    assert (dict(endpoint.labels), list(endpoint.header_names), endpoint.rate_per_second) == (
        {"a": "b"},
        ["x-a"],
        5,
    )
    got = await api.call(api.webhooks.GetEndpoint, pb.GetEndpointRequest(endpoint_id=endpoint.id))
    assert got.endpoint == endpoint

    update = pb.UpdateEndpointRequest(
        endpoint_id=endpoint.id, endpoint=pb.Endpoint(display_name="yours", etag=endpoint.etag)
    )
    update.update_mask.paths.append("display_name")
    updated = (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint
    assert (updated.display_name, updated.rate_per_second) == ("yours", 5)
    assert (await refused(api.call(api.webhooks.UpdateEndpoint, update))).reason == "ETAG_MISMATCH"

    delete = pb.DeleteEndpointRequest(endpoint_id=endpoint.id, etag=endpoint.etag)
    assert (await refused(api.call(api.webhooks.DeleteEndpoint, delete))).reason == "ETAG_MISMATCH"
    delete.etag = updated.etag
    await api.call(api.webhooks.DeleteEndpoint, delete)
    error = await refused(api.call(api.webhooks.GetEndpoint, pb.GetEndpointRequest(endpoint_id=endpoint.id)))
    assert error.reason == "RESOURCE_NOT_FOUND"


async def test_a_repeated_creation_returns_the_first_endpoint_and_its_secret(
    sink: Receiver, api: Client
) -> None:
    answers = await asyncio.gather(
        *[api.call(api.webhooks.CreateEndpoint, creation(sink.url)) for _ in range(5)]
    )
    assert len({(answer.endpoint.id, answer.secret) for answer in answers}) == 1
    error = await refused(api.call(api.webhooks.CreateEndpoint, creation(f"{sink.url}/other")))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_a_callers_own_secret_is_used(tenant: Tenant, sink: Receiver, api: Client) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    request = creation(sink.url)
    request.secret = secret
    assert (await api.call(api.webhooks.CreateEndpoint, request)).secret == secret
    await tenant.commit(event_pb2.Event(type="a.b"))
    [received] = await sink.wait_for(1)
    Webhook(secret).verify(received.body, dict(received.headers))


async def test_secrets_are_sealed_at_rest(tenant: Tenant, sink: Receiver, api: Client) -> None:
    created = await api.create(sink.url)
    stored = await tenant.pool.fetchval("SELECT secret FROM webhook_endpoint WHERE tenant = $1", tenant.uuid)
    assert created.secret.encode() not in stored


async def test_headers_are_sent_and_their_values_are_told_nobody(
    tenant: Tenant, sink: Receiver, api: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    sink.answer = lambda _request: web.Response(status=410)
    created = await api.create(sink.url, headers={"x-b": "topsecret", "Authorization": "Bearer topsecret"})
    endpoint = created.endpoint
    assert list(endpoint.header_names) == ["Authorization", "x-b"]
    update = pb.UpdateEndpointRequest(endpoint_id=endpoint.id, endpoint=pb.Endpoint(display_name="mine"))
    update.update_mask.paths.append("display_name")
    told = [
        created,
        await api.call(api.webhooks.UpdateEndpoint, update),
        await api.call(api.webhooks.TestEndpoint, pb.TestEndpointRequest(endpoint_id=endpoint.id)),
    ]
    [received] = sink.requests
    assert (received.headers["x-b"], received.headers["Authorization"]) == ("topsecret", "Bearer topsecret")
    await tenant.commit(event_pb2.Event(type="a.b"))

    async def disabled() -> pb.GetEndpointResponse | None:
        answer = await api.call(api.webhooks.GetEndpoint, pb.GetEndpointRequest(endpoint_id=endpoint.id))
        return answer if answer.endpoint.state == pb.ENDPOINT_STATE_DISABLED else None

    told += [
        await eventually(disabled),
        await api.call(api.webhooks.ListEndpoints, pb.ListEndpointsRequest()),
        *await api.deliveries(),
        await api.call(api.events.ListEvents, event_pb2.ListEventsRequest()),
    ]
    assert [answer for answer in told if "topsecret" in str(answer)] == []
    for table in ("webhook_endpoint", "webhook_delivery", "webhook_attempt", "event", "request"):
        rows = await tenant.pool.fetch(f"SELECT t::text, convert_to(t::text, 'UTF8') FROM {table} t")
        stored = "".join(row[0] for row in rows)
        assert "topsecret" not in stored
        assert b"topsecret".hex() not in stored
    assert "topsecret" not in "".join(capfd.readouterr())


async def test_headers_are_not_sent_to_another_origin_than_they_were_given_for(
    sink: Receiver, api: Client
) -> None:
    endpoint = (await api.create(sink.url, headers={"authorization": "secret"})).endpoint
    update = pb.UpdateEndpointRequest(
        endpoint_id=endpoint.id, endpoint=pb.Endpoint(url=sink.url.replace("127.0.0.1", "127.0.0.2"))
    )
    update.update_mask.paths.append("url")

    refusal = await refused(api.call(api.webhooks.UpdateEndpoint, update))

    assert isinstance(refusal, InvalidField)
    assert refusal.field == "endpoint.headers"
    update.update_mask.paths.append("headers")
    assert not (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint.header_names
    update.update_mask.paths.remove("headers")
    update.endpoint.url = sink.url
    await api.call(api.webhooks.UpdateEndpoint, update)


async def test_an_update_replaces_all_headers(tenant: Tenant, sink: Receiver, api: Client) -> None:
    endpoint = (await api.create(sink.url, headers={"x-a": "1", "x-b": "2"})).endpoint
    update = pb.UpdateEndpointRequest(endpoint_id=endpoint.id, endpoint=pb.Endpoint(headers={"x-c": "3"}))
    update.update_mask.paths.append("headers")
    updated = (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint
    assert list(updated.header_names) == ["x-c"]
    await tenant.commit(event_pb2.Event(type="a.b"))
    [received] = await sink.wait_for(1)
    assert {name: value for name, value in received.headers.items() if name.startswith("x-")} == {"x-c": "3"}
    update.endpoint.headers.clear()
    assert not (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint.header_names


async def test_an_update_of_all_fields_keeps_the_headers_that_nobody_can_read(
    sink: Receiver, api: Client
) -> None:
    created = await api.create(sink.url, headers={"x-a": "1"})
    read = (
        await api.call(api.webhooks.GetEndpoint, pb.GetEndpointRequest(endpoint_id=created.endpoint.id))
    ).endpoint
    read.display_name = "Renamed"
    update = pb.UpdateEndpointRequest(endpoint_id=read.id, endpoint=read)
    update.update_mask.paths.append("*")
    updated = (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint
    assert (updated.display_name, list(updated.header_names)) == ("Renamed", ["x-a"])


async def test_no_rate_is_told_from_a_rate(sink: Receiver, api: Client) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    assert not endpoint.HasField("rate_per_second")
    update = pb.UpdateEndpointRequest(endpoint_id=endpoint.id, endpoint=pb.Endpoint(rate_per_second=7))
    update.update_mask.paths.append("rate_per_second")
    assert (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint.rate_per_second == 7
    update.endpoint.ClearField("rate_per_second")
    updated = (await api.call(api.webhooks.UpdateEndpoint, update)).endpoint
    assert not updated.HasField("rate_per_second")


async def test_a_sample_of_the_type_that_is_asked_for_is_delivered_and_says_so(
    sink: Receiver, tenant: Tenant, api: Client
) -> None:
    created = await api.create(sink.url)
    request = pb.TestEndpointRequest(endpoint_id=created.endpoint.id, event_type="message.received")
    answer = await api.call(api.webhooks.TestEndpoint, request)
    assert answer.attempt.http_status == 200
    [received] = sink.requests
    assert received.headers["webhook-test"] == "true"
    body = Webhook(created.secret).verify(received.body, dict(received.headers))
    assert (body["type"], body["tenant_id"]) == ("message.received", tenant.id)
    assert body["message"]["message"]["content"] == {"text": {"body": "Hello"}}


async def test_a_sample_of_no_type_is_refused(sink: Receiver, api: Client) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    request = pb.TestEndpointRequest(endpoint_id=endpoint.id, event_type="message.no_such")
    error: Any = await refused(api.call(api.webhooks.TestEndpoint, request))
    assert (error.reason, error.field) == ("INVALID_FIELD", "event_type")
    assert not sink.requests


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateEndpointRequest(endpoint=pb.Endpoint(url="http://127.0.0.1/")), "request_id"),
        (pb.CreateEndpointRequest(request_id="r"), "endpoint"),
        (creation(""), "endpoint.url"),
        (creation("http://127.0.0.1/", event_types=["No"]), "endpoint.event_types"),
        (
            pb.CreateEndpointRequest(
                request_id="r", endpoint=pb.Endpoint(url="http://127.0.0.1/"), secret="short"
            ),
            "secret",
        ),
    ],
)
async def test_bad_input_is_refused_by_field(
    api: Client, request_: pb.CreateEndpointRequest, field: str
) -> None:
    error = await refused(api.call(api.webhooks.CreateEndpoint, request_))
    assert (error.reason, getattr(error, "field", "")) == ("INVALID_FIELD", field)


async def test_another_tenants_endpoint_and_delivery_do_not_exist(
    world: World, tenant: Tenant, sink: Receiver, api: Client, address: str
) -> None:
    created = await api.create(sink.url)
    await tenant.commit(event_pb2.Event(type="a.b"))
    [delivery] = await eventually(api.deliveries)
    other_key = (await world.tenant()).api_key
    endpoint_id = created.endpoint.id
    async with client(address, other_key) as other:
        stubs = other.webhooks
        update = pb.UpdateEndpointRequest(endpoint_id=endpoint_id, endpoint=pb.Endpoint(display_name="x"))
        update.update_mask.paths.append("display_name")
        for method, request in (
            (stubs.GetEndpoint, pb.GetEndpointRequest(endpoint_id=endpoint_id)),
            (stubs.UpdateEndpoint, update),
            (stubs.DeleteEndpoint, pb.DeleteEndpointRequest(endpoint_id=endpoint_id)),
            (stubs.RotateSecret, pb.RotateSecretRequest(request_id="r", endpoint_id=endpoint_id)),
            (stubs.TestEndpoint, pb.TestEndpointRequest(endpoint_id=endpoint_id)),
            (stubs.GetEndpointStats, pb.GetEndpointStatsRequest(endpoint_id=endpoint_id)),
            (stubs.ListAttempts, pb.ListAttemptsRequest(delivery_id=delivery.id)),
            (stubs.Redeliver, pb.RedeliverRequest(request_id="r", delivery_id=delivery.id)),
        ):
            assert (await refused(other.call(method, request))).reason == "RESOURCE_NOT_FOUND"
        assert not (await other.call(stubs.ListEndpoints, pb.ListEndpointsRequest())).endpoints
        assert not await other.deliveries()
        named = pb.ListEndpointsRequest(tenant_id=tenant.id)
        assert (await refused(other.call(stubs.ListEndpoints, named))).reason == "RESOURCE_NOT_FOUND"


async def test_an_administrator_must_name_the_tenant(tenant: Tenant, sink: Receiver, admin: Client) -> None:
    request = creation(sink.url)
    error = await refused(admin.call(admin.webhooks.CreateEndpoint, request))
    assert getattr(error, "field", "") == "tenant_id"
    request.tenant_id = ids.new_id(Prefix.TENANT)
    error = await refused(admin.call(admin.webhooks.CreateEndpoint, request))
    assert error.reason == "RESOURCE_NOT_FOUND"
    request.tenant_id = tenant.id
    created = await admin.call(admin.webhooks.CreateEndpoint, request)
    assert created.endpoint.tenant_id == tenant.id


@pytest.mark.read_back("ListEndpoints")
async def test_endpoints_are_listed_in_pages(sink: Receiver, api: Client) -> None:
    made = [(await api.create(f"{sink.url}/{number}")).endpoint.id for number in range(5)]
    seen: list[str] = []
    request = pb.ListEndpointsRequest(page_size=2)
    while True:
        page = await api.call(api.webhooks.ListEndpoints, request)
        seen += [endpoint.id for endpoint in page.endpoints]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == made


@pytest.mark.read_back("ListDeliveries")
async def test_deliveries_are_filtered_and_listed_newest_first(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    one = (await api.create(f"{sink.url}/one")).endpoint.id
    await api.create(f"{sink.url}/two", event_types=["message.sent"])
    names = await tenant.commit(event_pb2.Event(type="a.a"), event_pb2.Event(type="message.sent"))
    await sink.wait_for(3)
    of_one = await api.deliveries(endpoint_id=one)
    assert [delivery.event_id for delivery in of_one] == names[::-1]
    assert len(await api.deliveries(event_id=names[1])) == 2
    assert not await api.deliveries(state=pb.DELIVERY_STATE_FAILED)


@pytest.mark.read_back("TestEndpoint")
async def test_a_test_event_is_sent_at_once_and_its_attempt_returned(sink: Receiver, api: Client) -> None:
    sink.answer = lambda _request: web.Response(status=418, text="short and stout")
    created = await api.create(sink.url)
    answer = await api.call(
        api.webhooks.TestEndpoint, pb.TestEndpointRequest(endpoint_id=created.endpoint.id)
    )
    assert (answer.attempt.http_status, answer.attempt.error) == (418, "HTTP 418")
    assert answer.attempt.response_body == b"short and stout"
    [received] = sink.requests
    assert json.loads(received.body)["type"] == "webhook.test"
    Webhook(created.secret).verify(received.body, dict(received.headers))


async def test_only_the_beginning_of_a_long_answer_is_kept(sink: Receiver, api: Client) -> None:
    sink.answer = lambda _request: web.Response(body=b"x" * 1_000_000)
    created = await api.create(sink.url)
    answer = await api.call(
        api.webhooks.TestEndpoint, pb.TestEndpointRequest(endpoint_id=created.endpoint.id)
    )
    assert answer.attempt.http_status == 200
    assert answer.attempt.response_body == b"x" * 1024


async def test_a_rotation_repeated_returns_the_same_secret(sink: Receiver, api: Client) -> None:
    created = await api.create(sink.url)
    request = pb.RotateSecretRequest(request_id="r", endpoint_id=created.endpoint.id)
    first = await api.call(api.webhooks.RotateSecret, request)
    again = await api.call(api.webhooks.RotateSecret, request)
    assert first.secret == again.secret != created.secret
    request.overlap.seconds = 8 * 86400
    assert getattr(await refused(api.call(api.webhooks.RotateSecret, request)), "field", "") == "overlap"


@pytest.mark.read_back("Redeliver")
async def test_a_failed_delivery_is_redelivered_with_its_id(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    sink.answer = lambda _request: web.Response(status=500)
    await api.create(sink.url)
    await tenant.commit(event_pb2.Event(type="a.b"))

    async def failed() -> list[pb.Delivery]:
        return await api.deliveries(state=pb.DELIVERY_STATE_FAILED)

    [delivery] = await eventually(failed)
    sink.answer = lambda _request: web.Response()
    request = pb.RedeliverRequest(request_id="r", delivery_id=delivery.id)
    answer = await api.call(api.webhooks.Redeliver, request)
    assert answer.delivery.state == pb.DELIVERY_STATE_PENDING
    await api.call(api.webhooks.Redeliver, request)

    async def succeeded() -> list[pb.Delivery]:
        return await api.deliveries(state=pb.DELIVERY_STATE_SUCCEEDED)

    [done] = await eventually(succeeded)
    assert (done.id, done.attempts) == (delivery.id, 3)
    assert {received.webhook_id for received in sink.requests} == {delivery.id}
    assert len({received.body for received in sink.requests}) == 1


@pytest.mark.read_back("GetEndpointStats")
async def test_stats_count_an_endpoints_deliveries(tenant: Tenant, sink: Receiver, api: Client) -> None:
    created = await api.create(sink.url)
    await tenant.commit(*[event_pb2.Event(type="a.b") for _ in range(3)])

    async def stats() -> pb.GetEndpointStatsResponse | None:
        request = pb.GetEndpointStatsRequest(endpoint_id=created.endpoint.id)
        answer = await api.call(api.webhooks.GetEndpointStats, request)
        return answer if answer.succeeded == 3 else None

    answer = await eventually(stats)
    assert (answer.pending, answer.failed, answer.attempts) == (0, 0, 3)
    assert answer.latency_p99.ToMilliseconds() >= answer.latency_p50.ToMilliseconds() >= 0


async def test_a_private_address_is_refused_when_made_and_when_sent(
    world: World, tenant: Tenant, sink: Receiver, api: Client
) -> None:
    await api.create(sink.url)
    strict = {"MESH_WEBHOOK_ALLOW_PRIVATE_ADDRESSES": "false", "MESH_WEBHOOK_RETRY_SCHEDULE": "0"}
    endpoints = (await api.call(api.webhooks.ListEndpoints, pb.ListEndpointsRequest())).endpoints
    async with service(world, **strict) as other, client(other.address, tenant.api_key) as strict_api:
        error = await refused(strict_api.call(strict_api.webhooks.CreateEndpoint, creation(sink.url)))
        assert error.reason == "ADDRESS_FORBIDDEN"
        answer = await strict_api.call(
            strict_api.webhooks.TestEndpoint, pb.TestEndpointRequest(endpoint_id=endpoints[0].id)
        )
    assert not answer.attempt.HasField("http_status")
    assert answer.attempt.error == "127.0.0.1 is not a public address"
    assert not sink.requests


@pytest.mark.parametrize("url", ["http://a..b/", f"http://{'a' * 64}.org/", "http://a_b..org/"])
async def test_a_host_that_cannot_be_is_refused_at_creation_and_update(
    sink: Receiver, api: Client, url: str
) -> None:
    made = (await api.create(sink.url)).endpoint
    update = pb.UpdateEndpointRequest(endpoint_id=made.id, endpoint=pb.Endpoint(url=url))
    update.update_mask.paths.append("url")
    for call in (
        api.call(api.webhooks.CreateEndpoint, creation(url)),
        api.call(api.webhooks.UpdateEndpoint, update),
    ):
        error = await refused(call)
        assert (error.reason, getattr(error, "field", "")) == ("INVALID_FIELD", "endpoint.url")


async def test_a_tenant_has_at_most_as_many_endpoints_as_it_may_however_many_are_made_at_once(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    await tenant.pool.execute(
        """UPDATE tenant SET settings = '{"max_endpoints": 3}' WHERE id = $1""", tenant.uuid
    )
    answers = await asyncio.gather(*[api.create(sink.url) for _ in range(8)], return_exceptions=True)
    errors = [from_rpc_error(one) for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert [(error.reason, getattr(error, "quota", "")) for error in errors] == [
        ("QUOTA_EXCEEDED", "max_endpoints")
    ] * 5
    listed = await api.call(api.webhooks.ListEndpoints, pb.ListEndpointsRequest())
    assert len(listed.endpoints) == 3
    await api.call(api.webhooks.DeleteEndpoint, pb.DeleteEndpointRequest(endpoint_id=listed.endpoints[0].id))
    await api.create(sink.url)


async def test_of_two_changes_with_one_etag_one_is_refused(sink: Receiver, api: Client) -> None:
    made = (await api.create(sink.url)).endpoint
    update = pb.UpdateEndpointRequest(
        endpoint_id=made.id, endpoint=pb.Endpoint(display_name="a", etag=made.etag)
    )
    update.update_mask.paths.append("display_name")
    calls = [api.call(api.webhooks.UpdateEndpoint, update) for _ in range(5)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert len([one for one in answers if isinstance(one, grpc.aio.AioRpcError)]) == 4


async def rotate(api: Client, endpoint_id: str, request_id: str) -> str:
    request = pb.RotateSecretRequest(request_id=request_id, endpoint_id=endpoint_id)
    answer = await api.call(api.webhooks.RotateSecret, request)
    return str(answer.secret)


async def test_every_secret_signs_until_its_promised_end_and_there_are_not_too_many(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    created = await api.create(sink.url)
    endpoint_id = created.endpoint.id
    secrets = [created.secret, *[await rotate(api, endpoint_id, f"r{number}") for number in range(4)]]
    await tenant.commit(event_pb2.Event(type="a.b"))
    [received] = await sink.wait_for(1)
    for secret in secrets:
        Webhook(secret).verify(received.body, dict(received.headers))

    error = await refused(rotate(api, endpoint_id, "r9"))
    assert error.reason == "TOO_MANY_SECRETS"
    assert error.retry_after is not None
    assert 23 * 3600 < error.retry_after <= 24 * 3600
    await rotate(api, endpoint_id, "r3")  # a repetition is no rotation
    await tenant.pool.execute(
        "UPDATE webhook_endpoint SET former_until[4] = now() WHERE id = $1",
        ids.decode(Prefix.ENDPOINT, endpoint_id, "id"),
    )
    await rotate(api, endpoint_id, "r9")


async def test_an_overlap_of_zero_ends_the_present_secret_and_no_former_one(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    created = await api.create(sink.url)
    leaked = await rotate(api, created.endpoint.id, "r1")
    request = pb.RotateSecretRequest(request_id="r2", endpoint_id=created.endpoint.id)
    request.overlap.seconds = 0
    present = (await api.call(api.webhooks.RotateSecret, request)).secret
    await tenant.commit(event_pb2.Event(type="a.b"))
    [received] = await sink.wait_for(1)
    for secret in (present, created.secret):
        Webhook(secret).verify(received.body, dict(received.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(leaked).verify(received.body, dict(received.headers))


async def test_a_secret_that_only_the_release_before_replaced_signs_too(
    tenant: Tenant, sink: Receiver, api: Client
) -> None:
    created = await api.create(sink.url)
    rotated = await rotate(api, created.endpoint.id, "r1")
    await tenant.pool.execute("UPDATE webhook_endpoint SET former_secrets = '{}', former_until = '{}'")
    await tenant.commit(event_pb2.Event(type="a.b"))
    [received] = await sink.wait_for(1)
    for secret in (created.secret, rotated):
        Webhook(secret).verify(received.body, dict(received.headers))


async def test_a_test_is_refused_beyond_its_rate_with_when_to_come_again(sink: Receiver, api: Client) -> None:
    made = (await api.create(sink.url)).endpoint
    request = pb.TestEndpointRequest(endpoint_id=made.id)
    for _ in range(10):
        await api.call(api.webhooks.TestEndpoint, request)
    error = await refused(api.call(api.webhooks.TestEndpoint, request))
    assert (error.reason, getattr(error, "quota", "")) == ("RATE_LIMITED", "test_endpoint_per_minute")
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 6
    assert len(sink.requests) == 10


async def test_a_filter_that_few_deliveries_pass_is_answered_in_pages_of_bounded_work(
    tenant: Tenant, sink: Receiver, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_store, "MAX_LOOKED_AT", 4)
    rare = (await api.create(sink.url, event_types=["message.sent"])).endpoint.id
    await api.create(sink.url)
    [name, *_] = await tenant.commit(
        event_pb2.Event(type="message.sent"), *[event_pb2.Event(type="a.b") for _ in range(10)]
    )
    await sink.wait_for(12)
    request = pb.ListDeliveriesRequest(endpoint_id=rare)
    pages = []
    while True:
        page = await api.call(api.webhooks.ListDeliveries, request)
        pages.append([delivery.event_id for delivery in page.deliveries])
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert [found for page in pages for found in page] == [name]
    assert 3 <= len(pages) <= 4
