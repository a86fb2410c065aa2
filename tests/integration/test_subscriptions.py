"""Named subscriptions: a place that the mesh keeps, shared by consumers, which acknowledge what is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from mesh_client import connect
from mesh_core import ids
from mesh_core.events import Cursor
from mesh_core.ids import Prefix
from mesh_webhook.events import stream as stream_module
from mesh_webhook.subscriptions import consumer_stream, consumers, subscription_store
from mesh_webhook.subscriptions.subscription import LANES
from sessionmesh.v1 import event_pb2 as pb
from tests.support.consuming import Stream, accounts_of_lanes, create, creation, numbered, refused
from tests.support.eventually import eventually
from tests.support.running import Running
from tests.support.webhook_world import Client, Tenant, World, client, open_world, process, service

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(module_postgres_url: str, etcd: str) -> AsyncIterator[World]:
    async with open_world(module_postgres_url, etcd) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Changes of who has what are noticed at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumers, "BEAT_SECONDS", 0.05)
        yield


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(world: World, quick: None) -> AsyncIterator[Running]:
    async with service(world) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: World) -> Tenant:
    return await world.tenant()


@pytest_asyncio.fixture(loop_scope="module")
async def api(tenant: Tenant, running: Running) -> AsyncIterator[Client]:
    async with client(running.address, tenant.api_key) as made:
        yield made


async def get(api: Client, name: str = "orders") -> pb.Subscription:
    answer = await api.call(api.events.GetSubscription, pb.GetSubscriptionRequest(name=name))
    return answer.subscription  # type: ignore[no-any-return]  # of stubs


async def shared_by(world: World, api: Client, count: int) -> None:
    """Waits until so many consumers hold a fair share each of all lanes."""
    fair = sorted(LANES // count + (number < LANES % count) for number in range(count))

    async def is_fair() -> bool:
        return await held_lanes(world, api) == fair

    await eventually(is_fair)


async def held_lanes(world: World, api: Client) -> list[int]:
    """How many lanes each consumer has, of those that have some."""
    rows = await world.pool.fetch(
        "SELECT count(*) FROM subscription_lane l JOIN subscription s ON s.id = l.subscription"
        " JOIN subscription_consumer c ON c.id = l.holder WHERE s.name = 'orders' AND s.tenant = $1"
        " GROUP BY l.holder",
        ids.decode(Prefix.TENANT, (await get(api)).tenant_id, "tenant_id"),
    )
    return sorted(row[0] for row in rows)


async def beats(world: World, tenant: Tenant, count: int) -> None:
    """Waits for so many beats of the tenant's consumers."""
    seen: set[Any] = set()

    async def enough() -> bool:
        query = (
            "SELECT min(c.lapse_at) FROM subscription_consumer c JOIN subscription s ON s.id = c.subscription"
            " WHERE s.tenant = $1"
        )
        seen.add(await world.pool.fetchval(query, tenant.uuid))
        return len(seen) > count

    await eventually(enough)


# --- what callers make, see and delete


@pytest.mark.read_back("CreateSubscription", "GetSubscription", "ListSubscriptions")
async def test_a_subscription_is_made_seen_and_deleted(tenant: Tenant, api: Client) -> None:
    account = ids.new_id(Prefix.ACCOUNT)
    fields: dict[str, Any] = {
        "event_types": ["message.*"],
        "account_ids": [account],
        "labels": {"team": "one"},
    }
    made = await create(api, **fields)
    assert (made.name, made.tenant_id, list(made.event_types)) == ("orders", tenant.id, ["message.*"])
    assert (list(made.account_ids), dict(made.labels), made.consumers) == ([account], {"team": "one"}, 0)
    assert not made.HasField("expire_time")
    assert (await get(api)).create_time == made.create_time
    for name in ("a", "z"):
        await create(api, name)
    request = pb.ListSubscriptionsRequest(page_size=2)
    first = await api.call(api.events.ListSubscriptions, request)
    request.page_token = first.next_page_token
    rest = await api.call(api.events.ListSubscriptions, request)
    assert [one.name for one in (*first.subscriptions, *rest.subscriptions)] == ["a", "orders", "z"]
    assert not rest.next_page_token


@pytest.mark.read_back("DeleteSubscription")
async def test_a_deleted_subscription_is_gone_and_its_streams_end(api: Client) -> None:
    await create(api)
    stream = await Stream(api).begun()
    await api.call(api.events.DeleteSubscription, pb.DeleteSubscriptionRequest(name="orders"))
    assert (await stream.ended()).reason == "RESOURCE_NOT_FOUND"
    assert (await refused(get(api))).reason == "RESOURCE_NOT_FOUND"
    again = refused(api.call(api.events.DeleteSubscription, pb.DeleteSubscriptionRequest(name="orders")))
    assert (await again).reason == "RESOURCE_NOT_FOUND"


async def test_a_repeated_creation_returns_the_first_one(api: Client) -> None:
    request = creation(request_id="once")
    first = await api.call(api.events.CreateSubscription, request)
    assert await api.call(api.events.CreateSubscription, request) == first
    request.subscription.name = "others"
    assert (await refused(api.call(api.events.CreateSubscription, request))).reason == "REQUEST_ID_REUSED"
    assert (await refused(create(api))).reason == "RESOURCE_EXISTS"


async def test_a_tenant_has_so_many_subscriptions(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_store, "MAX_SUBSCRIPTIONS", 1)
    await create(api)
    assert (await refused(create(api, "more"))).reason == "QUOTA_EXCEEDED"
    await api.call(api.events.DeleteSubscription, pb.DeleteSubscriptionRequest(name="orders"))
    await create(api, "more")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.CreateSubscriptionRequest(subscription=pb.Subscription(name="a")), "request_id"),
        (pb.CreateSubscriptionRequest(request_id="r"), "subscription"),
        (creation(""), "subscription.name"),
        (creation("Orders"), "subscription.name"),
        (creation("a" * 65), "subscription.name"),
        (creation("a\n"), "subscription.name"),
        (creation("a", event_types=["no.such"]), "subscription.event_types"),
        (creation("a", account_ids=["acc_1"]), "subscription.account_ids"),
        (creation("a", labels={"": "x"}), "subscription.labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_creation_says_what_is_wrong(
    api: Client, request_: pb.CreateSubscriptionRequest, field: str
) -> None:
    error: Any = await refused(api.call(api.events.CreateSubscription, request_))
    assert (error.reason, error.field) == ("INVALID_FIELD", field)


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListSubscriptions", pb.ListSubscriptionsRequest(page_size=1001), "page_size"),
        ("ListSubscriptions", pb.ListSubscriptionsRequest(page_token="nonsense"), "page_token"),
        ("GetSubscription", pb.GetSubscriptionRequest(name="No name"), "name"),
        ("DeleteSubscription", pb.DeleteSubscriptionRequest(), "name"),
    ],
    ids=["page size", "page token", "no name", "none"],
)
async def test_what_is_asked_of_subscriptions_says_what_is_wrong(
    api: Client, method: str, request_: Any, field: str
) -> None:
    error: Any = await refused(api.call(getattr(api.events, method), request_))
    assert (error.code.name, error.field) == ("INVALID_ARGUMENT", field)


@pytest.mark.parametrize("field", ["event_types", "account_ids", "labels"])
async def test_filters_are_the_subscription_s_own(api: Client, field: str) -> None:
    await create(api)
    values: dict[str, Any] = {
        "event_types": ["message.*"],
        "account_ids": [ids.new_id(Prefix.ACCOUNT)],
        "labels": {"a": "b"},
    }
    request = pb.SubscribeRequest(subscription="orders", **{field: values[field]})
    error: Any = await refused(api.stream(request).read())
    assert (error.reason, error.field, field in error.message) == ("INVALID_FIELD", "subscription", True)


async def test_another_tenant_s_subscription_does_not_exist(
    world: World, api: Client, running: Running
) -> None:
    await create(api)
    cursor = (await get(api)).cursor
    async with client(running.address, (await world.tenant()).api_key) as other:
        for call in (
            get(other),
            other.call(other.events.DeleteSubscription, pb.DeleteSubscriptionRequest(name="orders")),
            other.call(
                other.events.AcknowledgeEvents, pb.AcknowledgeEventsRequest(name="orders", cursor=cursor)
            ),
            other.stream(pb.SubscribeRequest(subscription="orders")).read(),
        ):
            assert (await refused(call)).reason == "RESOURCE_NOT_FOUND"
        await create(other)
    assert (await get(api)).name == "orders"


async def test_a_key_that_is_limited_to_accounts_has_no_subscriptions(
    tenant: Tenant, api: Client, running: Running
) -> None:
    await create(api)
    async with client(running.address, await tenant.key_for(ids.new_id(Prefix.ACCOUNT))) as limited:
        call = limited.stream(pb.SubscribeRequest(subscription="orders"))
        assert (await refused(call.read())).reason == "SCOPE_MISSING"


# --- one consumer


@pytest.mark.read_back("AcknowledgeEvents")
async def test_what_is_acknowledged_does_not_come_again_and_the_rest_does(
    tenant: Tenant, api: Client
) -> None:
    await tenant.commit(*numbered(1, 99))
    await create(api, event_types=["message.*"])
    await tenant.commit(*numbered(5), pb.Event(type="call.offered", labels={"n": "55"}))
    stream = Stream(api)
    assert await stream.take(5) == [0, 1, 2, 3, 4], "nothing from before it was made, and nothing else"
    after = await stream.acknowledge(stream.events[2].cursor)
    assert (after.cursor, after.consumers) == (stream.events[2].cursor, 1)
    assert after.lag.ToNanoseconds() > 0
    stream.close()
    again = Stream(api)
    assert await again.take(2) == [3, 4]
    await again.acknowledge()
    await tenant.commit(*numbered(1, 5))
    assert await again.take(1) == [5]
    again.close()


async def test_a_subscription_may_begin_at_the_oldest_event(tenant: Tenant, api: Client) -> None:
    await tenant.commit(*numbered(3))
    request = creation()
    request.from_oldest = True
    await api.call(api.events.CreateSubscription, request)
    stream = Stream(api)
    assert await stream.take(3) == [0, 1, 2]
    stream.close()


async def test_a_subscription_may_begin_at_a_time(tenant: Tenant, api: Client) -> None:
    for number in range(3):
        await tenant.commit(*numbered(2, 2 * number))
    rows = await tenant.pool.fetch(
        "SELECT commit_time FROM event WHERE tenant = $1 ORDER BY xid, seq", tenant.uuid
    )
    request = creation()
    request.start_time.FromDatetime(rows[2]["commit_time"])
    await api.call(api.events.CreateSubscription, request)
    stream = Stream(api)
    assert await stream.take(4) == [2, 3, 4, 5]
    stream.close()
    late = creation("late")
    late.start_time.FromDatetime(rows[-1]["commit_time"] + timedelta(hours=1))
    made = (await api.call(api.events.CreateSubscription, late)).subscription
    assert Cursor.decode(made.cursor) > Cursor.decode(stream.events[-1].cursor)
    early = creation("early")
    early.start_time.seconds = 1
    made = (await api.call(api.events.CreateSubscription, early)).subscription
    assert Cursor.decode(made.cursor) < Cursor.decode(stream.events[0].cursor)
    early.from_oldest, early.request_id = True, "other"
    error: Any = await refused(api.call(api.events.CreateSubscription, early))
    assert (error.reason, error.field) == ("INVALID_FIELD", "start_time")


async def test_its_cursor_moves_past_what_it_does_not_want(tenant: Tenant, api: Client) -> None:
    await create(api, event_types=["call.*"])
    stream = await Stream(api).begun()
    await tenant.commit(*numbered(3))
    last = (await api.call(api.events.ListEvents, pb.ListEventsRequest())).events[-1].cursor

    async def past() -> bool:
        found = await get(api)
        return Cursor.decode(found.cursor) >= Cursor.decode(last) and not found.lag.ToNanoseconds()

    await eventually(past)
    stream.close()


async def test_a_consumer_is_sent_no_more_than_so_many_unacknowledged_events(
    tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MAX_UNACKNOWLEDGED", 100)
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(consumer_stream, "LOOK_SECONDS", 0.05)
    await create(api)
    await tenant.commit(*numbered(150))
    stream = Stream(api)
    assert await stream.take(100) == [*range(100)]
    await stream.stays_quiet()
    await stream.acknowledge(stream.events[59].cursor)
    await stream.stays_quiet()  # a page of them has no room yet
    await stream.acknowledge()
    assert await stream.take(50) == [*range(100, 150)]
    stream.close()


async def test_a_consumer_that_acknowledges_nothing_in_time_ends_and_its_events_come_again(
    tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(api)
    await tenant.commit(*numbered(3))
    stream = Stream(api)
    assert await stream.take(3) == [0, 1, 2]
    with monkeypatch.context() as patch:
        patch.setattr(consumers, "ACKNOWLEDGE_SECONDS", 0.1)
        error = await stream.ended()
    assert (error.reason, "acknowledged" in error.message) == ("GOING_AWAY", True)
    again = Stream(api)
    assert await again.take(3) == [0, 1, 2]
    again.close()


async def test_an_acknowledgement_may_come_twice_and_late(tenant: Tenant, api: Client) -> None:
    await create(api)
    await tenant.commit(*numbered(4))
    stream = Stream(api)
    await stream.take(4)
    third = stream.events[2].cursor
    assert (await stream.acknowledge(third)).cursor == third
    assert (await stream.acknowledge(third)).cursor == third
    assert (await stream.acknowledge(stream.events[0].cursor)).cursor == third, "it never moves back"
    last = (await stream.acknowledge(consumer_id="")).cursor
    assert Cursor.decode(last) >= Cursor.decode(stream.events[3].cursor)
    stream.close()


async def test_what_was_never_sent_cannot_be_acknowledged(tenant: Tenant, api: Client) -> None:
    await create(api)
    await tenant.commit(*numbered(1))
    stream = Stream(api)
    await stream.take(1)
    ahead = Cursor.decode(stream.events[-1].cursor)
    ahead = Cursor(ahead.generation, ahead.xid + 10_000, 1)
    for consumer_id in (stream.consumer_id, ""):
        error = await refused(stream.acknowledge(ahead.encode(), consumer_id))
        assert error.reason == "EVENT_NOT_SENT"
    stream.close()


@pytest.mark.parametrize(
    ("cursor", "consumer_id", "field"),
    [("nonsense", "", "cursor"), ("", "acc_1", "consumer_id"), ("", "con_1", "consumer_id")],
)
async def test_an_acknowledgement_says_what_is_wrong(
    api: Client, cursor: str, consumer_id: str, field: str
) -> None:
    made = await create(api)
    request = pb.AcknowledgeEventsRequest(
        name="orders", cursor=cursor or made.cursor, consumer_id=consumer_id
    )
    error: Any = await refused(api.call(api.events.AcknowledgeEvents, request))
    assert (error.reason, error.field) == ("INVALID_FIELD", field)


async def test_a_consumer_that_has_ended_acknowledges_nothing(tenant: Tenant, api: Client) -> None:
    await create(api)
    await tenant.commit(*numbered(1))
    stream = Stream(api)
    await stream.take(1)
    stream.close()

    async def alone() -> bool:
        return (await get(api)).consumers == 0

    await eventually(alone)
    for consumer_id in (stream.consumer_id, ""):
        assert (await refused(stream.acknowledge(consumer_id=consumer_id))).reason == "CONSUMER_GONE"


async def test_one_that_has_lost_its_place_serves_no_more(tenant: Tenant, api: Client) -> None:
    await create(api)
    stream = await Stream(api).begun()
    await tenant.pool.execute(
        "WITH lost AS (UPDATE subscription SET expire_time = now() WHERE tenant = $1 RETURNING id)"
        " DELETE FROM subscription_consumer WHERE subscription IN (SELECT id FROM lost)",
        tenant.uuid,
    )
    error = await stream.ended()
    assert error.reason == "CURSOR_OUT_OF_RANGE"
    Cursor.decode(error.metadata["oldest_cursor"])
    assert (await Stream(api).ended()).reason == "CURSOR_OUT_OF_RANGE"
    assert (await get(api)).HasField("expire_time")


# --- several consumers


async def test_consumers_share_accounts_and_each_account_stays_in_order_with_one(
    world: World, tenant: Tenant, api: Client
) -> None:
    await create(api)
    streams = [Stream(api, acknowledging=True) for _ in range(3)]
    await shared_by(world, api, 3)
    accounts = accounts_of_lanes(*range(LANES))
    for number in range(4):
        await tenant.commit(*[numbered(1, number, account)[0] for account in accounts])
    await eventually(lambda: sum(len(one.events) for one in streams) == 4 * LANES)
    seen: dict[str, list[int]] = {}
    for one in streams:
        own: dict[str, list[int]] = defaultdict(list)
        for event in one.events:
            own[event.account_id].append(int(event.labels["n"]))
        assert not own.keys() & seen.keys(), "an account has one consumer"
        assert len(own) in (10, 11)
        seen |= own
        one.close()
    assert all(order == [0, 1, 2, 3] for order in seen.values())


async def test_a_consumer_that_leaves_gives_its_accounts_and_what_is_not_done_to_the_others(
    world: World, tenant: Tenant, api: Client
) -> None:
    await create(api)
    staying, leaving = Stream(api, acknowledging=True), Stream(api)
    await shared_by(world, api, 2)
    accounts = accounts_of_lanes(*range(LANES))
    await tenant.commit(*[numbered(1, number, account)[0] for number, account in enumerate(accounts)])
    first = await leaving.take(LANES // 2)
    await leaving.acknowledge(leaving.events[3].cursor)
    leaving.close()
    rest = await staying.take(LANES - 4)
    assert sorted(rest) == sorted({*range(LANES)} - {*first[:4]})
    staying.close()


async def test_what_a_consumer_has_in_hand_goes_to_no_other(
    world: World, tenant: Tenant, api: Client
) -> None:
    """An account is handed over when its events are acknowledged, or its consumer has ended."""
    await create(api)
    accounts = accounts_of_lanes(*range(LANES))
    await tenant.commit(*[numbered(1, number, account)[0] for number, account in enumerate(accounts)])
    first = Stream(api)
    assert sorted(await first.take(LANES)) == [*range(LANES)]
    second = await Stream(api, acknowledging=True).begun()
    await beats(world, tenant, 2)  # by then the first one knows of it
    await tenant.commit(*numbered(1, 100, accounts[0]), *numbered(1, 101, accounts[-1]))
    await beats(world, tenant, 3)
    assert (second.events, len(first.events)) == ([], LANES), (
        "nothing new while accounts are to be handed over"
    )
    await first.acknowledge()
    await shared_by(world, api, 2)
    assert await first.take(1) + await second.take(1) in ([100, 101], [101, 100])
    first.close()
    second.close()


async def test_an_acknowledgement_for_all_is_of_nothing_that_was_not_sent(
    world: World, tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "MAX_UNACKNOWLEDGED", 100)
    await create(api)
    streams = [await Stream(api).begun(), await Stream(api).begun()]
    await shared_by(world, api, 2)
    accounts = accounts_of_lanes(0, LANES - 1)
    await tenant.commit(*numbered(150, 0, accounts[0]))
    await tenant.commit(*numbered(1, 500, accounts[1]))
    await eventually(lambda: sorted(len(one.events) for one in streams) == [1, 100])
    slow, quick_one = sorted(streams, key=lambda one: -len(one.events))
    await slow.acknowledge(quick_one.events[0].cursor, consumer_id="")
    slow.close()
    quick_one.close()
    again = Stream(api, acknowledging=True)
    assert (await again.take(50))[-1] == 149
    again.close()


async def test_what_is_not_acknowledged_stays_so_over_beats(
    world: World, tenant: Tenant, api: Client
) -> None:
    await create(api)
    await tenant.commit(*numbered(2))
    stream = Stream(api)
    await stream.take(2)
    await beats(world, tenant, 3)
    assert Cursor.decode((await get(api)).cursor) < Cursor.decode(stream.events[0].cursor)
    stream.close()


async def test_a_consumer_that_beats_is_not_taken_for_a_dead_one(
    world: World, tenant: Tenant, api: Client
) -> None:
    await create(api)
    stream = await Stream(api).begun()
    ended = await world.pool.fetchval(
        "SELECT subscription_leave($1, true, '8 s')",
        ids.decode(Prefix.CONSUMER, stream.consumer_id, "consumer_id"),
    )
    assert ended is False
    stream.close()


async def test_late_acknowledgements_of_before_accounts_were_shared_anew_move_nothing(
    world: World, tenant: Tenant, api: Client
) -> None:
    """Else they would be taken for those of events that came meanwhile, of other accounts."""
    await create(api)
    other, stream = Stream(api), Stream(api, acknowledging=True)
    await shared_by(world, api, 2)
    accounts = accounts_of_lanes(*range(LANES))
    for number in range(2):
        await tenant.commit(*[numbered(1, number, account)[0] for account in accounts])
    await other.take(LANES)
    await stream.take(LANES)
    former, cursor = stream.consumer_id, max((event.cursor for event in stream.events), key=Cursor.decode)
    stream.acknowledging = False
    other.close()
    await stream.take(LANES)
    assert {event.id for event in stream.events[LANES:]} == {event.id for event in other.events}
    again_sent = [Cursor.decode(event.cursor) for event in stream.events[LANES:]]
    assert min(again_sent) < Cursor.decode(cursor), "they are from before"
    await tenant.commit(*numbered(1, 2, accounts[0]))
    await stream.take(1)
    assert (await refused(stream.acknowledge(cursor, former))).reason == "CONSUMER_GONE"
    stream.close()
    again = Stream(api)
    assert len(await again.take(LANES + 1)) == LANES + 1
    again.close()


async def test_there_are_so_many_consumers(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "MAX_CONSUMERS", 1)
    await create(api)
    stream = await Stream(api).begun()
    error = await Stream(api).ended()
    assert (error.reason, error.retry_after) == ("RATE_LIMITED", consumers.RETRY_SECONDS)
    stream.close()


@pytest.mark.slow
async def test_consumers_of_several_processes_share_and_those_of_a_killed_one_are_taken_over(
    world: World, tenant: Tenant, api: Client
) -> None:
    await create(api)
    accounts = accounts_of_lanes(*range(LANES))
    async with process(world) as killed, client(await killed.address(), tenant.api_key) as remote:
        staying, dying = Stream(api), Stream(remote)
        await shared_by(world, api, 2)
        await tenant.commit(*[numbered(1, number, account)[0] for number, account in enumerate(accounts)])
        first = await dying.take(LANES // 2)
        await dying.acknowledge(dying.events[7].cursor)
        killed.child.kill()
        await killed.child.wait()
        dying.close()
    # Its lease lapses.
    dead = ids.decode(Prefix.CONSUMER, dying.consumer_id, "consumer_id")
    await tenant.pool.execute("UPDATE subscription_consumer SET lapse_at = now() WHERE id = $1", dead)
    own = await staying.take(LANES // 2)
    await staying.acknowledge()
    again = await staying.take(LANES // 2 - 8)
    assert sorted(own + again) == sorted({*range(LANES)} - {*first[:8]})
    staying.close()


async def test_a_process_that_has_lost_its_lease_sends_no_more(
    tenant: Tenant, api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_beat(_self: consumers.Consumers) -> None:
        """It is too late for that."""

    monkeypatch.setattr(consumers.Consumers, "_beat", no_beat)
    await create(api)
    stream = await Stream(api).begun()
    await tenant.pool.execute(
        "SELECT subscription_leave(id, false, '8 s') FROM subscription_consumer WHERE subscription"
        " = (SELECT id FROM subscription WHERE tenant = $1)",
        tenant.uuid,
    )
    await tenant.commit(*numbered(1))
    assert (await stream.ended()).reason == "GOING_AWAY"
    assert stream.events == []


async def test_the_client_follows_and_acknowledges(tenant: Tenant, api: Client, running: Running) -> None:
    await create(api)
    await tenant.commit(*numbered(3))
    async with connect(running.address, tenant.api_key, transport="plain") as followed:
        subscription = followed.subscribe(subscription="orders")
        async for event in subscription:
            assert await subscription.acknowledge()
            if event.labels["n"] == "2":
                break
        assert Cursor.decode((await get(api)).cursor) >= Cursor.decode(subscription.cursor)


async def test_a_drain_gives_the_accounts_back_at_once(world: World, tenant: Tenant, api: Client) -> None:
    await create(api)
    async with service(world) as other, client(other.address, tenant.api_key) as drained:
        stream = await Stream(drained).begun()
        other.stop.ask("the test drains it")
        assert (await stream.ended()).reason == "GOING_AWAY"
    assert (await get(api)).consumers == 0
    assert not await held_lanes(world, api)
