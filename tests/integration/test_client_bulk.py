"""The Python client's bulk sender: every message has one result, whatever happens to the streams."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from google.rpc import status_pb2

from mesh_client import (
    AlreadyExists,
    BulkResult,
    Cancelled,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    connect,
)
from mesh_core import errors
from mesh_core.rpc.server.status import details_of
from sessionmesh.v1 import content_pb2, message_pb2, message_pb2_grpc
from tests.support.eventually import eventually
from tests.support.fake_router import FakeRouter, fake_router, refuse

Frame = message_pb2.SendMessagesRequest
Answer = Callable[[Frame, Any], Awaitable[list[message_pb2.SendResult]]]


def text(number: int, **fields: Any) -> message_pb2.SendMessageRequest:
    fields.setdefault("account_id", f"acc_{number % 7}")
    fields.setdefault("request_id", f"request-{number}")
    content = content_pb2.Content(text=content_pb2.TextContent(body=f"Hello {number}"))
    return message_pb2.SendMessageRequest(content=content, recipient="phone:+4915112345678", **fields)


def accepted(request: message_pb2.SendMessageRequest) -> message_pb2.SendResult:
    message = message_pb2.Message(id=f"msg_{request.request_id}", account_id=request.account_id)
    return message_pb2.SendResult(
        account_id=request.account_id, request_id=request.request_id, message=message
    )


def refused(request: message_pb2.SendMessageRequest, error: errors.MeshError) -> message_pb2.SendResult:
    status = status_pb2.Status.FromString(details_of(error))
    return message_pb2.SendResult(account_id=request.account_id, request_id=request.request_id, error=status)


class Messages(message_pb2_grpc.MessageServiceServicer):
    """Remembers each message by request id, as the mesh does; `answer` may do otherwise for one frame."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.stored: dict[str, str] = {}
        self.frames: list[int] = []
        self.streams = 0
        self.answer: Answer = self.accept

    async def accept(self, frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        self.store(frame)
        return [accepted(request) for request in frame.messages]

    def store(self, frame: Frame) -> None:
        for request in frame.messages:
            body = self.stored.setdefault(request.request_id, request.content.text.body)
            assert body == request.content.text.body, "another message under the same request id"

    async def BatchSendMessages(self, request: message_pb2.BatchSendMessagesRequest, context: Any) -> Any:
        self.frames.append(len(request.messages))
        frame = Frame(messages=request.messages)
        return message_pb2.BatchSendMessagesResponse(results=await self.answer(frame, context))

    async def SendMessages(self, requests: AsyncIterator[Frame], context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        async for frame in requests:
            self.frames.append(len(frame.messages))
            self.seen.update(request.request_id for request in frame.messages)
            yield message_pb2.SendMessagesResponse(results=await self.answer(frame, context))


@pytest.fixture
def messages() -> Messages:
    return Messages()


@pytest.fixture
async def router(messages: Messages) -> AsyncIterator[FakeRouter]:
    async with fake_router({message_pb2_grpc.add_MessageServiceServicer_to_server: messages}) as running:
        yield running


@pytest.fixture
async def client(router: FakeRouter) -> AsyncIterator[Client]:
    async with connect(router.address, "key", transport="plain") as connected:
        yield connected


async def test_each_message_has_the_result_that_is_its_own(client: Client) -> None:
    async with client.bulk() as bulk:
        futures = [await bulk.send(text(number)) for number in range(2500)]
    assert [future.result().id for future in futures] == [f"msg_request-{number}" for number in range(2500)]


async def test_frames_are_full_when_there_is_much_and_go_at_once_when_there_is_little(
    client: Client, messages: Messages
) -> None:
    async with client.bulk() as bulk:
        alone = await (await bulk.send(text(0)))
        assert (alone.id, messages.frames) == ("msg_request-0", [1])
        for number in range(1, 3001):
            await bulk.send(text(number))
    assert max(messages.frames) == 1000
    assert sum(messages.frames) == 3001
    assert len(messages.frames) < 30
    assert messages.streams == 1


async def test_results_come_for_any_iterable_wrong_requests_included(client: Client) -> None:
    async def requests() -> AsyncIterator[message_pb2.SendMessageRequest]:
        for number in range(100):
            yield text(number)
        yield text(100, external_id="e" * 1_100_000)

    async with client.bulk(max_in_flight=10) as bulk:
        results = [result async for result in bulk.results(requests())]
        assert len(results) == 101
        [wrong] = [result for result in results if result.error]
        assert isinstance(wrong.error, InvalidArgument)
        sent = {result.request.request_id: result.message for result in results if result.message}
        assert {f"msg_{request_id}" for request_id in sent} == {made.id for made in sent.values()}
        assert [result.error async for result in bulk.results(text(number) for number in range(5))] == [
            None
        ] * 5


async def test_what_the_producer_raises_comes_through(client: Client) -> None:
    def requests() -> Any:
        yield text(1)
        raise LookupError("no more")

    async with client.bulk() as bulk:
        with pytest.raises(LookupError, match="no more"):
            async for _ in bulk.results(requests()):
                pass


async def test_no_more_are_taken_than_may_be_in_flight(client: Client, messages: Messages) -> None:
    go_on = asyncio.Event()

    async def late(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        await go_on.wait()
        return await messages.accept(frame, context)

    messages.answer = late
    async with client.bulk(max_in_flight=3) as bulk:
        for number in range(3):
            await bulk.send(text(number))
        fourth = asyncio.create_task(bulk.send(text(3)))
        await eventually(lambda: messages.frames)
        assert not fourth.done()
        go_on.set()
        await (await fourth)
    assert len(messages.stored) == 4


async def test_a_refused_item_has_its_own_typed_error(client: Client, messages: Messages) -> None:
    async def pick(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        outcomes = {
            "request-1": errors.NotFound("account", "acc_1"),
            "request-2": errors.AlreadyExists("used", "REQUEST_ID_REUSED"),
            "request-3": errors.InvalidField("content.text.body", "is required"),
        }
        return [
            refused(request, outcomes[request.request_id])
            if request.request_id in outcomes
            else accepted(request)
            for request in frame.messages
        ]

    messages.answer = pick
    async with client.bulk() as bulk:
        futures = [await bulk.send(text(number)) for number in range(4)]
    assert futures[0].result().id == "msg_request-0"
    missing, reused, wrong = (future.exception() for future in futures[1:])
    assert isinstance(missing, NotFound)
    assert missing.resource == "account acc_1"
    assert isinstance(reused, AlreadyExists)
    assert reused.reason == "REQUEST_ID_REUSED"
    assert isinstance(wrong, InvalidArgument)
    assert wrong.field_violations[0].field == "content.text.body"


async def test_an_item_whose_account_moves_is_sent_again(client: Client, messages: Messages) -> None:
    async def move(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        messages.answer = messages.accept
        return [refused(request, errors.NotOwner("n2", 3, retry_after=0.01)) for request in frame.messages]

    messages.answer = move
    async with client.bulk() as bulk:
        assert (await (await bulk.send(text(1)))).id == "msg_request-1"
    assert messages.seen["request-1"] == 2


@pytest.mark.parametrize("stored", [True, False])
async def test_a_stream_that_breaks_loses_and_doubles_nothing(
    client: Client, messages: Messages, router: FakeRouter, stored: bool
) -> None:
    broken = 0

    async def breaking(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        nonlocal broken
        if broken < 3 and len(messages.frames) % 2 == 0:
            broken += 1
            if stored:
                messages.store(frame)  # and the answer is lost
            await refuse(context, errors.GoingAway())
        return await messages.accept(frame, context)

    messages.answer = breaking
    async with client.bulk(max_in_flight=2000) as bulk:
        futures = [await bulk.send(text(number)) for number in range(8000)]
    assert [future.result().id for future in futures] == [f"msg_request-{number}" for number in range(8000)]
    assert len(messages.stored) == 8000
    assert broken == 3


async def test_a_router_that_is_killed_and_comes_back_loses_nothing(
    client: Client, messages: Messages, router: FakeRouter
) -> None:
    async with client.bulk(max_in_flight=500) as bulk:
        futures = []
        for number in range(3000):
            futures.append(await bulk.send(text(number)))
            if number in (800, 1900):
                await router.kill()
                await router.start()
    assert {future.result().id for future in futures} == {f"msg_request-{number}" for number in range(3000)}
    assert len(messages.stored) == 3000
    assert messages.streams >= 3


async def test_a_result_that_does_not_come_in_time_is_a_typed_error_with_the_request_id(
    client: Client, messages: Messages
) -> None:
    async def never(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        return []

    messages.answer = never
    async with client.bulk(timeout=0.3) as bulk:
        request = text(1)
        request.ClearField("request_id")
        future = await bulk.send(request)
        with pytest.raises(DeadlineExceeded, match="may have been accepted") as raised:
            await future
    [sent] = messages.seen
    assert raised.value.metadata == {"account_id": "acc_1", "request_id": sent}


async def test_a_key_that_is_refused_fails_every_item_at_once(client: Client, messages: Messages) -> None:
    async def wrong_key(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        await refuse(context, errors.Unauthenticated("unknown key", "CREDENTIALS_INVALID"))
        return []

    messages.answer = wrong_key
    async with client.bulk() as bulk:
        futures = [await bulk.send(text(number)) for number in range(10)]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(outcome, Unauthenticated) for outcome in outcomes)
        assert len(set(map(id, outcomes))) == 10
        messages.answer = messages.accept
        assert (await (await bulk.send(text(11)))).id == "msg_request-11"


async def test_the_same_request_id_twice_at_a_time_is_refused(client: Client, messages: Messages) -> None:
    go_on = asyncio.Event()

    async def late(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        await go_on.wait()
        return await messages.accept(frame, context)

    messages.answer = late
    async with client.bulk() as bulk:
        first = await bulk.send(text(1))
        with pytest.raises(InvalidArgument, match="request_id"):
            await bulk.send(text(1))
        go_on.set()
        await first
        await (await bulk.send(text(1)))  # now it is a repeat, which the mesh answers as before


async def test_a_message_that_fits_into_no_frame_is_not_sent(client: Client, messages: Messages) -> None:
    async with client.bulk() as bulk:
        with pytest.raises(InvalidArgument) as raised:
            await bulk.send(text(1, external_id="e" * 1_100_000))
    assert raised.value.field_violations[0].field == "content"
    assert not messages.frames


async def test_a_small_list_goes_in_one_call_and_has_its_results_in_order(
    client: Client, messages: Messages
) -> None:
    async def pick(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        wrong = errors.InvalidField("recipient", "is required")
        return [accepted(frame.messages[0]), refused(frame.messages[1], wrong), accepted(frame.messages[2])]

    messages.answer = pick
    request = text(0)
    request.ClearField("request_id")
    first, second, third = await client.send_many([request, text(1), text(2)])
    assert messages.frames == [3]
    assert request.request_id == ""
    assert first.message is not None
    assert first.message.id == f"msg_{first.request.request_id}"
    assert isinstance(second.error, InvalidArgument)
    assert (second.request.request_id, third.request.request_id) == ("request-1", "request-2")


async def test_of_a_small_list_only_what_moved_is_sent_again(client: Client, messages: Messages) -> None:
    async def move(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        messages.answer = messages.accept
        return [
            accepted(frame.messages[0]),
            refused(frame.messages[1], errors.NotOwner("n2", 3, retry_after=0.01)),
        ]

    messages.answer = move
    results = await client.send_many([text(0), text(1)])
    assert [result.message and result.message.id for result in results] == ["msg_request-0", "msg_request-1"]
    assert messages.frames == [2, 1]


async def test_a_small_list_of_which_nothing_was_taken_is_an_error(
    client: Client, messages: Messages
) -> None:
    async def wrong_key(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        await refuse(context, errors.Unauthenticated("unknown key", "CREDENTIALS_INVALID"))
        return []

    messages.answer = wrong_key
    with pytest.raises(Unauthenticated):
        await client.send_many([text(0)])


async def test_a_request_may_be_changed_once_it_is_taken(client: Client, messages: Messages) -> None:
    request = text(1)
    async with client.bulk() as bulk:
        for number in range(50):
            request.request_id = f"request-{number}"
            request.content.text.body = f"body {number}"
            await bulk.send(request)
    assert messages.stored == {f"request-{number}": f"body {number}" for number in range(50)}


async def test_leaving_with_an_error_still_sends_what_was_taken(client: Client, messages: Messages) -> None:
    async def work() -> None:
        async with client.bulk() as bulk:
            for number in range(100):
                await bulk.send(text(number))
            raise LookupError

    with pytest.raises(LookupError):
        await work()
    assert len(messages.stored) == 100


async def test_who_is_cancelled_leaves_at_once_and_futures_are_cancelled(
    client: Client, messages: Messages
) -> None:
    async def never(frame: Frame, context: Any) -> list[message_pb2.SendResult]:
        return []

    messages.answer = never
    futures: list[asyncio.Future[message_pb2.Message]] = []
    results: list[BulkResult] = []

    async def work() -> None:
        async with client.bulk() as bulk:
            await bulk.offer(text(2), results.append)
            futures.append(await bulk.send(text(1)))
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await eventually(lambda: messages.frames)
    await eventually(lambda: futures)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert futures[0].cancelled()
    await eventually(lambda: results)
    assert isinstance(results[0].error, Cancelled)


async def test_a_closed_sender_takes_nothing(client: Client) -> None:
    async with client.bulk() as bulk:
        pass
    with pytest.raises(FailedPrecondition, match="closed"):
        await bulk.send(text(1))
