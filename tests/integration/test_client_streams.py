"""The Python client's streams that go on: subscriptions, pairing, watching a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from mesh_client import Client, CursorExpired, FailedPrecondition, InvalidArgument, Unauthenticated, connect
from mesh_core import errors
from sessionmesh.v1 import event_pb2, event_pb2_grpc, session_pb2, session_pb2_grpc
from tests.support.fake_router import Add, FakeRouter, break_off, fake_router, refuse

EVENTS = 20
Leave = Callable[[Any], Awaitable[None]]


def cursor(number: int) -> str:
    return f"cursor-{number:03}"


def event(number: int) -> event_pb2.Event:
    return event_pb2.Event(id=f"evt_{number}", cursor=cursor(number), type="message.received")


def events(*numbers: int) -> event_pb2.SubscribeResponse:
    return event_pb2.SubscribeResponse(events=event_pb2.EventBatch(events=[event(n) for n in numbers]))


def heartbeat(number: int) -> event_pb2.SubscribeResponse:
    return event_pb2.SubscribeResponse(heartbeat=event_pb2.Heartbeat(cursor=cursor(number)))


class Events(event_pb2_grpc.EventServiceServicer):
    """Has events 1 to EVENTS; each stream sends some of them, in pairs, and then does what `leave` says."""

    def __init__(self) -> None:
        self.requests: list[event_pb2.SubscribeRequest] = []
        self.leave: Leave = break_off
        self.first: Leave | None = None
        self.pairs = 2

    async def Subscribe(self, request: event_pb2.SubscribeRequest, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        if self.first is not None:
            await self.first(context)
        at = int(request.cursor[-3:]) if request.cursor else 0
        yield heartbeat(at)
        for _ in range(self.pairs):
            if at < EVENTS:
                yield events(at + 1, at + 2)
                at += 2
        await self.leave(context)


class Named(event_pb2_grpc.EventServiceServicer):
    """A named subscription: each stream is another consumer, and has all that is not acknowledged."""

    def __init__(self) -> None:
        self.requests: list[event_pb2.SubscribeRequest] = []
        self.acknowledged: list[event_pb2.AcknowledgeEventsRequest] = []
        self.done = 0
        self.gone = False
        self.pairs = 2
        self.leave: Leave = break_off

    async def Subscribe(self, request: event_pb2.SubscribeRequest, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        consumer = f"con_{len(self.requests)}"
        yield event_pb2.SubscribeResponse(
            heartbeat=event_pb2.Heartbeat(cursor=cursor(99), consumer_id=consumer)
        )
        at = self.done
        for _ in range(self.pairs):
            yield events(at + 1, at + 2)
            at += 2
        await self.leave(context)

    async def AcknowledgeEvents(self, request: event_pb2.AcknowledgeEventsRequest, context: Any) -> Any:
        self.acknowledged.append(request)
        if self.gone:
            await refuse(context, errors.FailedPrecondition("gone", "CONSUMER_GONE"))
        self.done = max(self.done, int(request.cursor[-3:]))
        return event_pb2.AcknowledgeEventsResponse()


class Sessions(session_pb2_grpc.SessionServiceServicer):
    """Plays one list of steps a stream, breaking off after each."""

    def __init__(self) -> None:
        self.requests: list[session_pb2.PairRequest] = []
        self.steps: list[list[session_pb2.PairResponse]] = []
        self.sessions: list[list[session_pb2.Session]] = []
        self.moved: errors.MeshError = errors.GoingAway()

    async def Pair(self, request: session_pb2.PairRequest, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        if not self.steps:
            await refuse(context, errors.FailedPrecondition("paired", "ALREADY_PAIRED"))
        for step in self.steps.pop(0):
            yield step
            if step.HasField("paired"):
                return
        await refuse(context, errors.GoingAway())

    async def GetSession(self, request: session_pb2.GetSessionRequest, context: Any) -> Any:
        return session_pb2.GetSessionResponse(session=session_pb2.Session(account_id=request.account_id))

    async def WatchSession(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for session in self.sessions.pop(0):
            yield session_pb2.WatchSessionResponse(session=session)
        await refuse(context, self.moved if self.sessions else errors.NotFound("account", "acc_1"))


@pytest.fixture
def served() -> Events:
    return Events()


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
async def router(served: Events, sessions: Sessions) -> AsyncIterator[FakeRouter]:
    services: dict[Add, object] = {
        event_pb2_grpc.add_EventServiceServicer_to_server: served,
        session_pb2_grpc.add_SessionServiceServicer_to_server: sessions,
    }
    async with fake_router(services) as running:
        yield running


@pytest.fixture
async def client(router: FakeRouter) -> AsyncIterator[Client]:
    async with connect(router.address, "key", transport="plain") as connected:
        yield connected


async def going_away(context: Any) -> None:
    await refuse(context, errors.GoingAway())


async def for_ever(context: Any) -> None:
    await asyncio.Event().wait()


async def moved(context: Any) -> None:
    await refuse(context, errors.Unavailable("busy", "NO_INSTANCE", retry_after=0.01))


@pytest.mark.parametrize("leave", [break_off, going_away, moved])
async def test_every_event_comes_once_and_in_order_over_streams_that_end(
    client: Client, served: Events, leave: Leave
) -> None:
    served.leave = leave
    seen = []
    async with asyncio.timeout(30):
        async for happened in client.subscribe(from_oldest=True):
            seen.append(happened.id)
            if len(seen) == EVENTS:
                break
    assert seen == [f"evt_{number}" for number in range(1, EVENTS + 1)]
    assert served.requests[0].from_oldest
    assert [request.cursor for request in served.requests[1:]] == [
        cursor(4),
        cursor(8),
        cursor(12),
        cursor(16),
    ]


async def test_a_killed_router_is_followed_by_the_next(
    client: Client, served: Events, router: FakeRouter
) -> None:
    served.leave = for_ever
    subscription = client.subscribe(from_oldest=True)
    seen = []
    async with asyncio.timeout(30):
        async for happened in subscription:
            seen.append(happened.id)
            if len(seen) == 4:
                await router.kill()
                await router.start()
            if len(seen) == 8:
                break
    assert seen == [f"evt_{number}" for number in range(1, 9)]


async def test_a_stream_that_falls_silent_is_replaced(client: Client, served: Events) -> None:
    served.leave = for_ever
    seen = []
    async with asyncio.timeout(30):
        async for happened in client.subscribe(from_oldest=True, silence=0.3):
            seen.append(happened.id)
            if len(seen) == 8:
                break
    assert len(served.requests) == 2


async def test_the_cursor_to_store_is_behind_what_was_handed_out(client: Client, served: Events) -> None:
    subscription = client.subscribe(cursor=cursor(2))
    assert subscription.cursor == cursor(2)
    async for happened in subscription:
        assert subscription.cursor == happened.cursor
        if happened.id == "evt_5":
            break
    assert subscription.cursor == cursor(5)
    async for happened in subscription:  # goes on where it was left
        assert happened.id == "evt_6"
        break


async def test_batches_tell_the_cursor_also_when_nothing_happened(client: Client, served: Events) -> None:
    served.leave = for_ever
    seen = []
    async with aclosing(client.subscribe(cursor=cursor(16)).batches()) as batches:
        async for batch in batches:
            seen.append(([happened.id for happened in batch.events], batch.cursor))
            if len(seen) == 3:
                break
    assert seen == [
        ([], cursor(16)),
        (["evt_17", "evt_18"], cursor(18)),
        (["evt_19", "evt_20"], cursor(20)),
    ]


async def test_an_expired_cursor_is_a_typed_error_with_the_oldest_one(client: Client, served: Events) -> None:
    async def expired(context: Any) -> None:
        told = {"oldest_cursor": cursor(7)}
        await refuse(context, errors.OutOfRange("expired", "CURSOR_OUT_OF_RANGE", metadata=told))

    served.first = expired
    with pytest.raises(CursorExpired) as raised:
        await anext(aiter(client.subscribe(cursor=cursor(1))))
    assert raised.value.oldest_cursor == cursor(7)


async def test_a_wrong_key_ends_a_subscription(client: Client, served: Events) -> None:
    async def wrong_key(context: Any) -> None:
        await refuse(context, errors.Unauthenticated("unknown key", "CREDENTIALS_INVALID"))

    served.first = wrong_key
    with pytest.raises(Unauthenticated):
        await anext(aiter(client.subscribe()))


async def test_filters_are_passed_on(client: Client, served: Events) -> None:
    subscription = client.subscribe(
        event_types=["message.*"], account_ids=("acc_1",), labels={"shop": "1"}, tenant_id="tnt_1"
    )
    async for _ in subscription:
        break
    assert served.requests[0] == event_pb2.SubscribeRequest(
        tenant_id="tnt_1", event_types=["message.*"], account_ids=["acc_1"], labels={"shop": "1"}
    )


@pytest.fixture
async def named() -> AsyncIterator[tuple[Client, Named]]:
    service = Named()
    async with (
        fake_router({event_pb2_grpc.add_EventServiceServicer_to_server: service}) as running,
        connect(running.address, "key", transport="plain") as connected,
    ):
        yield connected, service


async def test_a_named_subscription_goes_on_behind_what_was_acknowledged(named: tuple[Client, Named]) -> None:
    client, served = named
    subscription = client.subscribe(subscription="orders", tenant_id="tnt_1")
    seen = []
    async for happened in subscription:
        seen.append(happened.id)
        if len(seen) % 2:
            assert await subscription.acknowledge()
        if len(seen) == 8:
            break
    assert seen == ["evt_1", "evt_2", "evt_3", "evt_4", "evt_4", "evt_5", "evt_6", "evt_7"], (
        "the one that was not acknowledged came again"
    )
    assert all(one.subscription == "orders" and not one.cursor for one in served.requests)
    first = served.acknowledged[0]
    assert (first.name, first.tenant_id, first.cursor) == ("orders", "tnt_1", cursor(1))
    consumers = [one.consumer_id for one in served.acknowledged]
    assert consumers == ["con_1", "con_1", "con_2", "con_2"]


async def test_a_batch_is_acknowledged_once(named: tuple[Client, Named]) -> None:
    client, served = named
    served.leave = for_ever
    subscription = client.subscribe(subscription="orders")
    async with aclosing(subscription.batches()) as batches:
        async for batch in batches:
            await subscription.acknowledge()
            assert await subscription.acknowledge(), "there is nothing more to say"
            if batch.cursor == cursor(4):
                break
    assert [one.cursor for one in served.acknowledged] == [cursor(2), cursor(4)]


async def test_one_is_told_that_what_it_acknowledges_comes_again(named: tuple[Client, Named]) -> None:
    client, served = named
    subscription = client.subscribe(subscription="orders")
    async for _ in subscription:
        served.gone = True
        assert not await subscription.acknowledge()
        break


async def test_only_named_subscriptions_are_acknowledged(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        await client.subscribe(from_oldest=True).acknowledge()


def test_a_contradictory_subscription_is_refused() -> None:
    client = connect("a:7600", "key")
    with pytest.raises(InvalidArgument, match="cursor"):
        client.subscribe(cursor="x", from_oldest=True)
    with pytest.raises(InvalidArgument, match="event_types"):
        client.subscribe(event_types="message.*")
    others: list[dict[str, Any]] = [
        {"cursor": "x"},
        {"from_oldest": True},
        {"event_types": ["message.*"]},
        {"labels": {"a": "b"}},
    ]
    for other in others:
        with pytest.raises(InvalidArgument, match="subscription"):
            client.subscribe(subscription="orders", **other)


def step(**fields: Any) -> session_pb2.PairResponse:
    return session_pb2.PairResponse(attempt_id="pai_1", **fields)


QR = [step(qr=session_pb2.PairQr(text=f"qr-{number}")) for number in range(3)]
PAIRED = step(paired=session_pb2.PairSuccess(session=session_pb2.Session(account_id="acc_1")))


async def test_an_attempt_to_pair_goes_on_when_its_stream_ends(client: Client, sessions: Sessions) -> None:
    sessions.steps = [[QR[0], QR[1]], [QR[1], QR[2]], [PAIRED]]
    assert [shown async for shown in client.pair("acc_1")] == [*QR, PAIRED]
    assert [request.attempt_id for request in sessions.requests] == ["", "pai_1", "pai_1"]
    assert len({request.request_id for request in sessions.requests}) == 1


async def test_pairing_that_succeeded_just_when_the_stream_broke_is_told(
    client: Client, sessions: Sessions
) -> None:
    sessions.steps = [[QR[0]]]
    assert [shown async for shown in client.pair("acc_1")] == [QR[0], PAIRED]


async def test_an_account_that_is_paired_already_is_an_error(client: Client) -> None:
    with pytest.raises(FailedPrecondition, match="ALREADY_PAIRED"):
        await anext(client.pair("acc_1"))


async def test_pairing_by_code_names_the_phone(client: Client, sessions: Sessions) -> None:
    sessions.steps = [[PAIRED]]
    async for _ in client.pair("acc_1", phone="+4915112345678", patience=90.5):
        pass
    [request] = sessions.requests
    assert (request.method, request.phone) == (session_pb2.PAIR_METHOD_CODE, "+4915112345678")
    assert request.timeout.ToMilliseconds() == 90_500


@pytest.mark.parametrize("end", [errors.GoingAway(), errors.NotOwner("n2", 5)])
async def test_a_watch_goes_on_with_the_next_owner_and_repeats_nothing(
    client: Client, sessions: Sessions, end: errors.MeshError
) -> None:
    sessions.moved = end
    states = [session_pb2.Session(account_id="acc_1", epoch=number) for number in range(3)]
    sessions.sessions = [[states[0], states[1]], [states[1], states[2]]]
    watch = client.watch_session("acc_1")
    assert [await anext(watch) for _ in range(3)] == states
    await watch.aclose()
