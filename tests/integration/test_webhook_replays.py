"""ReplayEvents: events of a time range are delivered again, as a job, after everything that is new."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import MeshError
from mesh_core.events import reader
from mesh_core.ids import Prefix
from mesh_core.jobs import job_message, worker
from mesh_core.rpc.server.status import from_rpc_error
from mesh_webhook.deliveries import replays
from sessionmesh.v1 import event_pb2, job_pb2
from sessionmesh.v1 import webhook_pb2 as pb
from tests.support.eventually import eventually
from tests.support.running import Running
from tests.support.webhook_tables import Tables
from tests.support.webhook_world import Client, Receiver, Tenant, World, client, open_world, receiver, service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(module_postgres_url: str, etcd: str) -> AsyncIterator[World]:
    async with open_world(module_postgres_url, etcd) as made:
        yield made


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """A job that waits is looked at often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "LOOK_SECONDS", 0.05)
        yield


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(world: World, quick: None) -> AsyncIterator[Running]:
    async with service(world, MESH_WEBHOOK_RETRY_SCHEDULE="0") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: World) -> Tenant:
    return await world.tenant()


@pytest_asyncio.fixture(loop_scope="module")
async def api(tenant: Tenant, running: Running) -> AsyncIterator[Client]:
    async with client(running.address, tenant.api_key) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def sink() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def numbered(count: int, first: int = 0, event_type: str = "message.sent") -> list[event_pb2.Event]:
    return [
        event_pb2.Event(type=event_type, labels={"n": str(first + number), "odd": str(number % 2)})
        for number in range(count)
    ]


def asking(endpoint_id: str, **fields: Any) -> pb.ReplayEventsRequest:
    """For everything since a minute ago, but for what the fields say."""
    request = pb.ReplayEventsRequest(request_id=ids.new_uuid().hex, endpoint_id=endpoint_id)
    request.start_time.FromDatetime(fields.pop("start", datetime.now(UTC) - timedelta(minutes=1)))
    if "end" in fields:
        request.end_time.FromDatetime(fields.pop("end"))
    request.MergeFrom(pb.ReplayEventsRequest(**fields))
    return request


async def begin(api: Client, endpoint_id: str, **fields: Any) -> str:
    """The job's id."""
    answer = await api.call(api.webhooks.ReplayEvents, asking(endpoint_id, **fields))
    assert answer.job.kind == job_pb2.JOB_KIND_REPLAY_EVENTS
    assert answer.job.subject == endpoint_id
    return str(answer.job.id)


async def job(tenant: Tenant, job_id: str) -> job_pb2.Job:
    """As JobService shows it."""
    uuid = ids.decode(Prefix.JOB, job_id, "job_id")
    [row] = await tenant.pool.fetch("SELECT * FROM job WHERE id = $1", uuid)
    return job_message(row)


async def done(tenant: Tenant, job_id: str) -> job_pb2.Job:
    """The job once it has ended."""

    async def ended() -> job_pb2.Job | None:
        found = await job(tenant, job_id)
        return found if found.HasField("end_time") else None

    return await eventually(ended)


async def refused(call: Awaitable[Any]) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def numbers(requests: list[Any]) -> list[int]:
    return [int(json.loads(request.body)["labels"]["n"]) for request in requests]


@pytest.mark.read_back("ReplayEvents")
async def test_what_was_delivered_comes_again_in_order_and_says_so(
    tenant: Tenant, api: Client, sink: Receiver
) -> None:
    endpoint = (await api.create(sink.url, rate_per_second=1000)).endpoint
    await tenant.commit(*numbered(5))
    first = await sink.wait_for(5)
    before = {request.webhook_id: request.body for request in first}
    job_id = await begin(api, endpoint.id)
    again = (await sink.wait_for(10))[5:]
    assert {request.webhook_id: request.body for request in again} == before
    assert {request.headers["webhook-replay"] for request in again} == {job_id}
    assert not any("webhook-replay" in request.headers for request in first)
    ended = await done(tenant, job_id)
    assert (ended.state, ended.total, ended.done, ended.failed) == (job_pb2.JOB_STATE_SUCCEEDED, 5, 5, 0)
    assert {one.replay_job_id for one in await api.deliveries(endpoint_id=endpoint.id)} == {job_id}


async def test_replayed_events_go_out_in_their_order(tenant: Tenant, api: Client, sink: Receiver) -> None:
    await tenant.commit(*numbered(10))
    endpoint = (await api.create(sink.url, state=pb.ENDPOINT_STATE_PAUSED)).endpoint
    await done(tenant, await begin(api, endpoint.id))
    rows = await tenant.pool.fetch(
        "SELECT body FROM webhook_delivery WHERE tenant = $1 ORDER BY due_at", tenant.uuid
    )
    assert [int(json.loads(row["body"])["labels"]["n"]) for row in rows] == [*range(10)]


async def test_events_from_before_the_endpoint_come_where_they_are_asked_for(
    tenant: Tenant, api: Client, sink: Receiver
) -> None:
    await tenant.commit(*numbered(2))
    await tenant.commit(*numbered(2, 10, "call.ended"))
    endpoint = (await api.create(sink.url, event_types=["message.*"])).endpoint
    await done(tenant, await begin(api, endpoint.id))
    assert sorted(numbers(await sink.wait_for(2))) == [0, 1]
    assert (await done(tenant, await begin(api, endpoint.id, event_types=["call.*"]))).done == 0, (
        "within what the endpoint wants"
    )


async def test_labels_and_types_are_those_asked_for(tenant: Tenant, api: Client, sink: Receiver) -> None:
    endpoint = (await api.create(sink.url, labels={"odd": "1"})).endpoint
    await tenant.commit(*numbered(4), *numbered(4, 10, "message.read"))
    await sink.wait_for(4)
    job_id = await begin(api, endpoint.id, event_types=["message.read"])
    assert sorted(numbers((await sink.wait_for(6))[4:])) == [11, 13]
    assert (await done(tenant, job_id)).done == 2


async def test_only_the_time_that_is_asked_for_comes_again(
    tenant: Tenant, api: Client, sink: Receiver
) -> None:
    endpoint = (await api.create(sink.url, state=pb.ENDPOINT_STATE_PAUSED)).endpoint
    for number in range(3):
        await tenant.commit(*numbered(1, number))
    stored = await tenant.pool.fetch(
        "SELECT commit_time FROM event WHERE tenant = $1 ORDER BY xid, seq", tenant.uuid
    )
    start, end = stored[1]["commit_time"], stored[2]["commit_time"]

    async def wait() -> bool:
        return len(await api.deliveries(state=pb.DELIVERY_STATE_PENDING)) == 3

    await eventually(wait)
    assert (await done(tenant, await begin(api, endpoint.id))).done == 0, "they wait as it is"
    await tenant.pool.execute("UPDATE webhook_delivery SET state = 2 WHERE tenant = $1", tenant.uuid)
    assert (await done(tenant, await begin(api, endpoint.id, start=start, end=end))).done == 1
    [pending] = await tenant.pool.fetch(
        "SELECT body FROM webhook_delivery WHERE tenant = $1 AND state = 1", tenant.uuid
    )
    assert json.loads(pending["body"])["labels"]["n"] == "1"


async def test_a_dry_run_counts_and_delivers_nothing(tenant: Tenant, api: Client, sink: Receiver) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    await tenant.commit(*numbered(3))
    await sink.wait_for(3)
    await _all_ended(api)
    ended = await done(tenant, await begin(api, endpoint.id, dry_run=True))
    assert (ended.dry_run, ended.total, ended.done) == (True, 3, 3)
    assert await api.deliveries(state=pb.DELIVERY_STATE_PENDING) == []
    assert len(sink.requests) == 3


async def test_failed_ones_alone_come_again_where_that_is_asked_for(
    tenant: Tenant, api: Client, sink: Receiver
) -> None:
    await tenant.commit(*numbered(1, 100))
    endpoint = (await api.create(sink.url)).endpoint
    sink.answer = lambda request: web.Response(status=500 if b'"odd": "1"' in request.body else 200)
    await tenant.commit(*numbered(4))
    await sink.wait_for(4)
    await _all_ended(api)
    sink.answer = lambda _request: web.Response()
    dry = await done(tenant, await begin(api, endpoint.id, failed_only=True, dry_run=True))
    ended = await done(tenant, await begin(api, endpoint.id, failed_only=True))
    assert (dry.done, ended.done) == (2, 2)
    assert sorted(numbers((await sink.wait_for(6))[4:])) == [1, 3]


async def test_what_is_redelivered_by_hand_is_no_replay(tenant: Tenant, api: Client, sink: Receiver) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    await tenant.commit(*numbered(1))
    await sink.wait_for(1)
    await begin(api, endpoint.id)
    await sink.wait_for(2)
    await _all_ended(api)
    [delivery] = await api.deliveries()
    await api.call(api.webhooks.Redeliver, pb.RedeliverRequest(request_id="again", delivery_id=delivery.id))
    assert "webhook-replay" not in (await sink.wait_for(3))[2].headers
    assert (await api.deliveries())[0].replay_job_id == ""


async def test_a_replay_waits_while_enough_wait_to_be_delivered_and_holds_up_no_other(
    world: World,
    tenant: Tenant,
    api: Client,
    sink: Receiver,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replays, "MOST_WAITING", 2)
    monkeypatch.setattr(replays, "MAX_EVENTS", 1)
    await tenant.commit(*numbered(5))
    endpoint = (await api.create(sink.url + "/paused", state=pb.ENDPOINT_STATE_PAUSED)).endpoint
    job_id = await begin(api, endpoint.id)

    async def full() -> bool:
        return len(await api.deliveries(state=pb.DELIVERY_STATE_PENDING)) == 2

    await eventually(full)
    other = await world.tenant()
    async with client(running.address, other.api_key) as neighbour:
        await other.commit(*numbered(1))
        own = (await neighbour.create(sink.url + "/other")).endpoint
        assert (await done(other, await begin(neighbour, own.id))).done == 1
    assert await full()
    assert (await job(tenant, job_id)).state == job_pb2.JOB_STATE_RUNNING
    update = pb.UpdateEndpointRequest(
        endpoint_id=endpoint.id, endpoint=pb.Endpoint(state=pb.ENDPOINT_STATE_ACTIVE)
    )
    update.update_mask.paths.append("state")
    await api.call(api.webhooks.UpdateEndpoint, update)
    assert sorted(numbers(await sink.wait_for(5, "/paused"))) == [0, 1, 2, 3, 4]
    assert (await done(tenant, job_id)).done == 5


async def test_a_cancelled_replay_stops(
    tenant: Tenant, api: Client, sink: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "MOST_WAITING", 1)
    monkeypatch.setattr(replays, "MAX_EVENTS", 1)
    await tenant.commit(*numbered(5))
    endpoint = (await api.create(sink.url, state=pb.ENDPOINT_STATE_PAUSED)).endpoint
    job_id = await begin(api, endpoint.id)
    uuid = ids.decode(Prefix.JOB, job_id, "job_id")
    await tenant.pool.execute("UPDATE job SET cancel_time = now() WHERE id = $1", uuid)
    assert (await done(tenant, job_id)).state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.parametrize("gone", ["deleted", "disabled"])
async def test_a_replay_fails_when_its_endpoint_goes(
    tenant: Tenant, api: Client, sink: Receiver, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr(replays, "MOST_WAITING", 0)
    await tenant.commit(*numbered(1))
    endpoint = (await api.create(sink.url)).endpoint
    job_id = await begin(api, endpoint.id)
    if gone == "deleted":
        await api.call(api.webhooks.DeleteEndpoint, pb.DeleteEndpointRequest(endpoint_id=endpoint.id))
    else:
        await tenant.pool.execute(
            "UPDATE webhook_endpoint SET state = $2 WHERE tenant = $1",
            tenant.uuid,
            pb.ENDPOINT_STATE_DISABLED,
        )
    ended = await done(tenant, job_id)
    assert ended.state == job_pb2.JOB_STATE_FAILED
    assert ended.error.code == (5 if gone == "deleted" else 9)
    if gone == "disabled":
        error = await refused(api.call(api.webhooks.ReplayEvents, asking(endpoint.id)))
        assert error.reason == "ENDPOINT_DISABLED"


async def test_a_repeated_request_begins_one_job(tenant: Tenant, api: Client, sink: Receiver) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    request = asking(endpoint.id)
    first = await api.call(api.webhooks.ReplayEvents, request)
    assert (await api.call(api.webhooks.ReplayEvents, request)).job.id == first.job.id
    request.failed_only = True
    assert (await refused(api.call(api.webhooks.ReplayEvents, request))).reason == "REQUEST_ID_REUSED"


async def test_a_tenant_has_so_many_replays(
    tenant: Tenant, api: Client, sink: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "MOST_REPLAYS", 0)
    endpoint = (await api.create(sink.url)).endpoint
    error = await refused(api.call(api.webhooks.ReplayEvents, asking(endpoint.id)))
    assert (error.reason, error.retry_after) == ("RATE_LIMITED", replays.RETRY_SECONDS)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": ""}, "request_id"),
        ({"endpoint_id": "nonsense"}, "endpoint_id"),
        ({"start": datetime.now(UTC) + timedelta(hours=1)}, "start_time"),
        ({"end": datetime.now(UTC) - timedelta(hours=1)}, "end_time"),
        ({"event_types": ["no.such"]}, "event_types"),
        ({"event_types": ["message.sent"] * 65}, "event_types"),
    ],
    ids=["request_id", "endpoint_id", "future", "no time", "no type", "many types"],
)
async def test_a_replay_says_what_is_wrong(
    tenant: Tenant, api: Client, sink: Receiver, fields: dict[str, Any], field: str
) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    request = asking(endpoint.id, **{k: v for k, v in fields.items() if not k.endswith("_id")})
    for name in ("request_id", "endpoint_id"):
        setattr(request, name, fields.get(name, getattr(request, name)))
    error: Any = await refused(api.call(api.webhooks.ReplayEvents, request))
    assert (error.reason, error.field) == ("INVALID_FIELD", field)


async def test_another_tenant_s_endpoint_does_not_exist(
    world: World, api: Client, sink: Receiver, running: Running
) -> None:
    endpoint = (await api.create(sink.url)).endpoint
    async with client(running.address, (await world.tenant()).api_key) as other:
        error = await refused(other.call(other.webhooks.ReplayEvents, asking(endpoint.id)))
    assert error.reason == "RESOURCE_NOT_FOUND"


# --- what is behind it


async def test_an_event_that_was_emptied_since_it_was_read_is_not_replayed(world: World) -> None:
    tables = Tables(world.pool, (await world.tenant()).uuid)
    endpoint = await tables.endpoint()
    nobody, one = UUID(bytes(16)), ids.new_uuid()
    event = await world.pool.fetchrow(
        "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
        " VALUES ($1, 1, $2, $3, 1, 'a.b', 'long') RETURNING xid, seq",
        one,
        tables.tenant,
        nobody,
    )
    assert event is not None
    made = await world.pool.fetchval(
        replays._REPLAY,
        *(nobody, endpoint, tables.tenant, False, [ids.new_uuid()], [one], [event["xid"]], [event["seq"]]),
        *([5], [None], ["a.b"], [b"{}"], [""]),
    )
    assert made is None


async def test_a_time_is_found_in_the_order_of_events(world: World) -> None:
    tenant = await world.tenant()
    for _ in range(5):
        await tenant.commit(*numbered(2))
    rows = await world.pool.fetch("SELECT xid, commit_time FROM event ORDER BY xid, seq")
    async with world.pool.acquire() as connection:
        for row in rows:
            xid, seq = await reader.place_before(connection, row["commit_time"] + reader.SLACK)
            assert (xid, seq) < (row["xid"], 1)
        late = await reader.place_before(connection, rows[-1]["commit_time"] + 2 * reader.SLACK)
        assert late[0] >= rows[-1]["xid"] - 1


async def _all_ended(api: Client) -> None:
    async def ended() -> bool:
        return not await api.deliveries(state=pb.DELIVERY_STATE_PENDING)

    await eventually(ended)
