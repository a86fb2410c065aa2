"""EventService: past events, and streams without a gap between past and present."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from mesh_core import ids
from mesh_core.errors import GoingAway, InvalidField, ResourceExhausted
from mesh_core.events import Cursor
from mesh_core.ids import Prefix
from mesh_core.rpc.server.status import from_rpc_error
from mesh_webhook.api import event_service
from mesh_webhook.events import stream as stream_module
from mesh_webhook.events import tail as tail_module
from sessionmesh.v1.event_pb2 import Event, ListEventsRequest, SubscribeRequest
from tests.support.eventually import eventually
from tests.support.running import Running
from tests.support.webhook_world import Client, Tenant, World, client, open_world, service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(module_postgres_url: str, etcd: str) -> AsyncIterator[World]:
    async with open_world(module_postgres_url, etcd) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: World) -> Tenant:
    return await world.tenant()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(world: World) -> AsyncIterator[Running]:
    async with service(world) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def api(tenant: Tenant, running: Running) -> AsyncIterator[Client]:
    async with client(running.address, tenant.api_key) as made:
        yield made


CLIENTS_TAKE = 4 * 1024 * 1024
"""The largest message that gRPC clients take by default."""


def numbered(count: int, first: int = 0, event_type: str = "a.b") -> list[Event]:
    return [Event(type=event_type, labels={"n": str(first + number)}) for number in range(count)]


async def take(call: Any, count: int, timeout: float = 20) -> list[Event]:
    """The next `count` events of a stream."""
    events: list[Event] = []
    async with asyncio.timeout(timeout):
        while len(events) < count:
            frame = await call.read()
            events += frame.events.events
    assert len(events) == count
    return events


def numbers(events: list[Event]) -> list[int]:
    return [int(event.labels["n"]) for event in events]


@pytest.mark.slow
async def test_a_stream_begins_with_its_position_and_goes_on_with_what_comes(
    tenant: Tenant, api: Client
) -> None:
    await tenant.commit(*numbered(2))

    async def both_can_be_read() -> bool:
        return len((await api.call(api.events.ListEvents, ListEventsRequest())).events) == 2

    await eventually(both_can_be_read)
    call = api.stream(SubscribeRequest())
    first = await call.read()
    assert Cursor.decode(first.heartbeat.cursor)
    names = await tenant.commit(*numbered(3, 2))
    events = await take(call, 3)
    assert [event.id for event in events] == names
    assert numbers(events) == [2, 3, 4]
    assert all(event.cursor and event.HasField("commit_time") for event in events)
    call.cancel()


@pytest.mark.read_back("Subscribe")
async def test_a_stream_from_the_oldest_gets_everything_once_and_in_order(
    tenant: Tenant, api: Client
) -> None:
    await tenant.commit(*numbered(700))
    call = api.stream(SubscribeRequest(from_oldest=True))
    writing = asyncio.create_task(write(tenant, 700, 20, 15))
    assert numbers(await take(call, 1000)) == list(range(1000))
    await writing
    call.cancel()


async def write(tenant: Tenant, first: int, batches: int, size: int) -> None:
    for batch in range(batches):
        await tenant.commit(*numbered(size, first + batch * size))


async def test_a_stream_resumes_behind_a_cursor(tenant: Tenant, api: Client) -> None:
    await tenant.commit(*numbered(10))
    call = api.stream(SubscribeRequest(from_oldest=True))
    cursor = (await take(call, 10))[3].cursor
    call.cancel()
    again = api.stream(SubscribeRequest(cursor=cursor))
    assert numbers(await take(again, 6)) == [4, 5, 6, 7, 8, 9]
    again.cancel()


async def test_a_stream_gets_only_what_it_wants(tenant: Tenant, api: Client) -> None:
    account = ids.new_id(Prefix.ACCOUNT)
    call = api.stream(SubscribeRequest(event_types=["message.*"], account_ids=[account], labels={"k": "v"}))
    await call.read()
    good = Event(type="message.sent", account_id=account, labels={"k": "v", "n": "1"})
    await tenant.commit(
        Event(type="b.b", account_id=account, labels={"k": "v"}),
        Event(type="message.sent", labels={"k": "v"}),
        Event(type="message.sent", account_id=account),
        Event(
            type="message.sent", account_id=account, labels={"k": "v"}, tenant_id=ids.new_id(Prefix.TENANT)
        ),
        good,
    )
    assert numbers(await take(call, 1)) == [1]
    call.cancel()


async def test_a_tenant_has_so_many_streams_open_and_gets_another_when_one_ends(
    world: World, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_service, "MAX_STREAMS", 2)
    async with service(world) as running, client(running.address, tenant.api_key) as api:
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await api.stream(SubscribeRequest(subscription="sub_1")).read()
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND, "one that cannot start takes no place"
        first, second = [api.stream(SubscribeRequest()) for _ in range(2)]
        for call in (first, second):
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.stream(SubscribeRequest()).read()
        error = from_rpc_error(caught.value)
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.quota) == ("RATE_LIMITED", "event_streams")
        assert error.retry_after == event_service.RETRY_SECONDS
        async with client(running.address, (await world.tenant()).api_key) as other:
            call = other.stream(SubscribeRequest())
            assert (await call.read()).HasField("heartbeat"), "another tenant has places of its own"
            call.cancel()
        first.cancel()

        async def there_is_a_place() -> bool:
            call = api.stream(SubscribeRequest())
            try:
                return bool(await call.read())
            except grpc.aio.AioRpcError:
                return False
            finally:
                call.cancel()

        await eventually(there_is_a_place)
        second.cancel()


async def test_a_key_that_is_limited_to_accounts_gets_only_their_events(
    tenant: Tenant, running: Running
) -> None:
    own, other = ids.new_id(Prefix.ACCOUNT), ids.new_id(Prefix.ACCOUNT)
    async with client(running.address, await tenant.key_for(own)) as api:
        call = api.stream(SubscribeRequest(from_oldest=True))
        await call.read()
        [name, *_] = await tenant.commit(
            Event(type="a.b", account_id=own, labels={"n": "1"}),
            Event(type="a.b", account_id=other, labels={"n": "2"}),
        )
        await tenant.commit_own(Event(type="a.b", labels={"n": "3"}))
        [last] = await tenant.commit(Event(type="a.b", account_id=own, labels={"n": "4"}))
        assert [event.id for event in await take(call, 2)] == [name, last]
        call.cancel()

        async def listed() -> list[Event]:
            answer = await api.call(api.events.ListEvents, ListEventsRequest(account_ids=[own]))
            return list(answer.events) if len(answer.events) == 2 else []

        await eventually(listed)
        assert numbers((await api.call(api.events.ListEvents, ListEventsRequest())).events) == [1, 4]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.call(api.events.ListEvents, ListEventsRequest(account_ids=[own, other]))
        assert from_rpc_error(caught.value).reason == "RESOURCE_NOT_FOUND"


async def test_a_slow_stream_falls_back_to_the_database_and_misses_nothing(
    tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "MAX_BUFFERED_EVENTS", 3)
    call = api.stream(SubscribeRequest())
    await call.read()
    writing = asyncio.create_task(write(tenant, 0, 10, 20))
    assert numbers(await take(call, 200)) == list(range(200))
    await writing
    call.cancel()


async def test_heartbeats_carry_the_cursor_past_what_the_stream_does_not_want(
    tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.05)
    call = api.stream(SubscribeRequest(event_types=["webhook.test"]))
    first = Cursor.decode((await call.read()).heartbeat.cursor)
    await tenant.commit(*numbered(1))
    async with asyncio.timeout(10):
        while Cursor.decode((await call.read()).heartbeat.cursor) <= first:
            pass
    call.cancel()


async def test_a_drain_ends_streams_with_a_token_to_resume_by(world: World, tenant: Tenant) -> None:
    async with service(world) as running, client(running.address, tenant.api_key) as api:
        call = api.stream(SubscribeRequest())
        await call.read()
        await tenant.commit(*numbered(1))
        [event] = await take(call, 1)
        running.stop.ask("the test drains it")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await take(call, 1)
    error = from_rpc_error(caught.value)
    assert isinstance(error, GoingAway)
    assert Cursor.decode(error.resume_token) >= Cursor.decode(event.cursor)


@pytest.mark.parametrize(
    ("cursor", "reason"), [("nonsense", "INVALID_FIELD"), (Cursor(9, 1, 1).encode(), "CURSOR_OUT_OF_RANGE")]
)
async def test_a_bad_cursor_is_refused(api: Client, cursor: str, reason: str) -> None:
    call = api.stream(SubscribeRequest(cursor=cursor))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert from_rpc_error(caught.value).reason == reason


@pytest.mark.read_back("ListEvents")
async def test_past_events_are_listed_in_pages(tenant: Tenant, api: Client) -> None:
    await tenant.commit(*numbered(5, 0, "call.ended"), *numbered(5, 5, "message.sent"))
    request = ListEventsRequest(page_size=3, event_types=["message.sent", "call.*"])
    seen: list[int] = []
    while True:
        page = await api.call(api.events.ListEvents, request)
        seen += numbers(page.events)
        request.cursor = page.next_cursor
        if not page.more:
            break
    assert seen == list(range(10))
    await tenant.commit(*numbered(1, 10, "call.ended"))
    assert numbers((await api.call(api.events.ListEvents, request)).events) == [10]


async def test_a_page_of_events_is_cut_by_bytes_and_misses_nothing(tenant: Tenant, api: Client) -> None:
    await tenant.commit(
        *[Event(type="a.b", labels={"n": str(number), "k": "v" * 1024 * 1024}) for number in range(5)]
    )
    request = ListEventsRequest(page_size=100)
    pages: list[list[int]] = []
    more = True
    while more:
        page = await api.call(api.events.ListEvents, request)
        pages.append(numbers(page.events))
        request.cursor, more = page.next_cursor, page.more
    assert pages[:3] == [[0, 1], [2, 3], [4]]


def large(count: int) -> list[Event]:
    """Events with texts of 100 kB."""
    return [Event(type="a.b", labels={"n": str(number), "text": "v" * 100_000}) for number in range(count)]


async def test_a_hundred_large_texts_come_through_a_stream_in_frames_that_every_client_takes(
    tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "MAX_BUFFERED_BYTES", 2 * 1024 * 1024)
    live = api.stream(SubscribeRequest())
    await live.read()
    await tenant.commit(*large(100))
    late = api.stream(SubscribeRequest(from_oldest=True))
    for call in (live, late):
        seen: list[int] = []
        async with asyncio.timeout(30):
            while len(seen) < 100:
                frame = await call.read()
                assert frame.ByteSize() < CLIENTS_TAKE
                seen += numbers(frame.events.events)
        assert seen == list(range(100))
        call.cancel()


async def test_a_hundred_large_texts_are_listed_in_pages_that_every_client_takes(
    tenant: Tenant, api: Client
) -> None:
    await tenant.commit(*large(100))
    request, more, seen = ListEventsRequest(page_size=1000), True, list[int]()
    while more:
        page = await api.call(api.events.ListEvents, request)
        assert page.ByteSize() < CLIENTS_TAKE
        request.cursor, more = page.next_cursor, page.more
        seen += numbers(page.events)
    assert seen == list(range(100))


async def test_an_event_larger_than_a_frame_goes_alone(tenant: Tenant, api: Client) -> None:
    giant = Event(type="a.b", labels={"n": "1", "text": "v" * 3_500_000})
    await tenant.commit(*numbered(1), giant, *numbered(1, 2))
    call = api.stream(SubscribeRequest(from_oldest=True))
    assert numbers(await take(call, 3)) == [0, 1, 2]
    call.cancel()
    page = await api.call(api.events.ListEvents, ListEventsRequest())
    assert numbers(page.events) == [0]
    page = await api.call(api.events.ListEvents, ListEventsRequest(cursor=page.next_cursor))
    assert numbers(page.events) == [1]


async def test_listing_says_what_is_wrong_with_a_page_size(api: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.call(api.events.ListEvents, ListEventsRequest(page_size=1001))
    assert isinstance(from_rpc_error(caught.value), InvalidField)
