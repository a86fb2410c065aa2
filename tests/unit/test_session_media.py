"""Media that came with messages: fetched, stored, and shown in the message as it is by then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from typing import Any, cast

import grpc.aio
import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import InvalidField, MeshError, ResourceExhausted
from mesh_core.ids import Prefix, new_id, new_uuid
from mesh_core.rpc.server.status import DETAILS_KEY, details_of
from mesh_core.telemetry import tracing
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.inbound.media import START_SECONDS, MediaFetcher
from mesh_session_node.journal import ContentUpdate, Event, FetchDone, FetchRetry
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import content_pb2, event_pb2, media_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.memory_host import OneAccount, account_row, content_of

ADA = "phone:+4915100000009"
MESSAGE = new_uuid()
MEDIA = new_id(Prefix.MEDIA)
DIGEST = sha256(b"miao").digest()


class MemoryMediaService:
    """Stands for `MediaClient`; `during` runs while a file is stored."""

    def __init__(self) -> None:
        self.headers: list[media_pb2.UploadHeader] = []
        self.during: Any = lambda: None
        self.error: Exception | None = None
        self.known: dict[bytes, media_pb2.Media] = {}

    async def look_up(self, _tenant: UUID, sha256: bytes) -> media_pb2.Media | None:
        return self.known.get(sha256)

    async def upload(
        self, _tenant: UUID, header: media_pb2.UploadHeader, pieces: AsyncIterator[bytes]
    ) -> media_pb2.Media:
        self.headers.append(header)
        if self.error is not None:
            raise self.error
        data = b"".join([piece async for piece in pieces])
        self.during()
        return media_pb2.Media(
            id=MEDIA,
            mime_type="image/png",
            size_bytes=len(data),
            sha256=b"s" * 32,
            state=content_pb2.MEDIA_STATE_READY,
        )


@pytest.fixture
def service() -> MemoryMediaService:
    return MemoryMediaService()


@pytest.fixture
def fetcher(account: OneAccount, service: MemoryMediaService) -> MediaFetcher:
    messages = cast("Any", account.messages)
    changes = ContentChanges(ReferenceLookup(messages))
    return MediaFetcher(cast("Any", service), messages, changes, 1, 1000)


def picture(caption: str = "cat.png", size: int = 4, digest: bytes = b"") -> bytes:
    """A stored message with a picture that is still to be fetched."""
    message = pb.Message(content=content_of(caption), sender=Person(address=ADA))
    message.content.image.media.sha256 = digest
    message.content.image.media.size_bytes = size
    message.content.image.media.state = content_pb2.MEDIA_STATE_PENDING
    return message.SerializeToString()


async def fetch(account: OneAccount, fetcher: MediaFetcher, blob: bytes = b"cat") -> None:
    """The message's file is fetched, and what comes of it stored."""
    fetcher.add(account.session.context, MESSAGE, blob)
    await account.settle()
    await account.journal.commit()


def stored_content(account: OneAccount) -> content_pb2.Content:
    [update] = account.stored(ContentUpdate)
    return pb.Message.FromString(update.content).content


async def test_a_file_is_stored_for_its_account_and_named_in_its_message(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(), ADA)
    await fetch(account, fetcher)
    [header] = service.headers
    assert (header.account_id, header.size_bytes) == (account.session.id, 4)
    media = stored_content(account).image.media
    assert (media.media_id, media.state) == (MEDIA, content_pb2.MEDIA_STATE_READY)
    assert "media.ready" in [event.type for event in account.stored(Event)]
    assert len(account.stored(FetchDone)) == 1


async def test_a_file_is_fetched_in_the_trace_of_its_message(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService
) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    message = pb.Message.FromString(picture())
    message.traceparent = traceparent
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, message.SerializeToString(), ADA)
    fetched_in: list[str] = []
    service.during = lambda: fetched_in.append(tracing.current_traceparent())
    await fetch(account, fetcher)
    assert fetched_in == [traceparent]


async def test_a_caption_that_was_edited_meanwhile_stays(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(), ADA)

    def edit() -> None:
        account.messages.rows[-1]["content"] = picture("dog.png")

    service.during = edit
    await fetch(account, fetcher)
    image = stored_content(account).image
    assert (image.caption, image.media.media_id) == ("dog.png", MEDIA)


async def test_a_message_that_was_taken_back_meanwhile_stays_so(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(), ADA)

    def revoke() -> None:
        revoked = pb.Message(content=content_pb2.Content(revoked=content_pb2.RevokedContent()))
        account.messages.rows[-1]["content"] = revoked.SerializeToString()

    service.during = revoke
    await fetch(account, fetcher)
    assert account.stored(ContentUpdate) == []
    assert len(account.stored(FetchDone)) == 1


async def test_a_message_that_was_taken_back_before_is_not_fetched(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService
) -> None:
    await account.connected()
    revoked = pb.Message(content=content_pb2.Content(revoked=content_pb2.RevokedContent()))
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, revoked.SerializeToString(), ADA)
    await fetch(account, fetcher)
    assert service.headers == []
    assert len(account.stored(FetchDone)) == 1


async def test_bytes_that_the_account_has_already_are_not_fetched(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService
) -> None:
    await account.connected()
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(digest=DIGEST), ADA)
    service.known[DIGEST] = media_pb2.Media(
        id=MEDIA,
        account_id=account.session.id,
        mime_type="image/png",
        sha256=DIGEST,
        origin=media_pb2.MEDIA_ORIGIN_NETWORK,
        state=content_pb2.MEDIA_STATE_READY,
    )
    await fetch(account, fetcher)
    assert service.headers == []
    media = stored_content(account).image.media
    assert (media.media_id, media.state) == (MEDIA, content_pb2.MEDIA_STATE_READY)
    assert "media.ready" in [event.type for event in account.stored(Event)]


@pytest.mark.parametrize("known", ["of another account", "uploaded"])
async def test_bytes_that_the_account_did_not_receive_before_are_fetched_for_it(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService, known: str
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(digest=DIGEST), ADA)
    service.known[DIGEST] = media_pb2.Media(
        id=new_id(Prefix.MEDIA),
        account_id=account.session.id if known == "uploaded" else new_id(Prefix.ACCOUNT),
        origin=media_pb2.MEDIA_ORIGIN_UPLOAD if known == "uploaded" else media_pb2.MEDIA_ORIGIN_NETWORK,
        sha256=DIGEST,
        state=content_pb2.MEDIA_STATE_READY,
    )
    await fetch(account, fetcher)
    assert stored_content(account).image.media.media_id == MEDIA


@pytest.mark.parametrize("kind", ["image", "document"])
async def test_what_a_file_was_made_smaller_to_stands_for_it_but_not_for_a_document(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService, kind: str
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    message = pb.Message(sender=Person(address=ADA))
    shown = getattr(message.content, kind)
    shown.media.sha256, shown.media.size_bytes = DIGEST, 4
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, message.SerializeToString(), ADA)
    service.known[DIGEST] = media_pb2.Media(
        id=MEDIA,
        account_id=account.session.id,
        mime_type="image/png",
        sha256=b"s" * 32,
        original_sha256=DIGEST,
        origin=media_pb2.MEDIA_ORIGIN_NETWORK,
        state=content_pb2.MEDIA_STATE_READY,
    )
    await fetch(account, fetcher)
    assert len(service.headers) == (kind == "document")


@pytest.mark.parametrize(
    ("refusal", "failure"),
    [
        (InvalidField("header.size_bytes", "is too much"), media_pb2.MEDIA_FAILURE_TOO_LARGE),
        (InvalidField("header.options.sha256", "is another"), media_pb2.MEDIA_FAILURE_CORRUPT),
        (
            ResourceExhausted("full", "QUOTA_EXCEEDED", quota="max_media_bytes"),
            media_pb2.MEDIA_FAILURE_QUOTA,
        ),
        (ResourceExhausted("too many", "RATE_LIMITED", quota="uploads"), None),
    ],
    ids=["too large", "corrupt", "quota", "too many"],
)
async def test_a_file_that_is_refused_is_lost_for_the_reason_or_tried_again(
    account: OneAccount,
    fetcher: MediaFetcher,
    service: MemoryMediaService,
    refusal: MeshError,
    failure: int | None,
) -> None:
    await account.connected()
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(), ADA)
    trailing = grpc.aio.Metadata((DETAILS_KEY, details_of(refusal)))
    service.error = grpc.aio.AioRpcError(refusal.code, grpc.aio.Metadata(), trailing, refusal.message)
    await fetch(account, fetcher)
    if failure is None:
        assert len(account.stored(FetchRetry)) == 1
        return
    [event] = [event for event in account.stored(Event) if event.type == "media.failed"]
    assert event_media(event).failure == failure


@pytest.mark.parametrize(
    ("blobs", "failure"),
    [({"cat": bytes(1001)}, media_pb2.MEDIA_FAILURE_TOO_LARGE), ({}, media_pb2.MEDIA_FAILURE_GONE)],
    ids=["too large", "gone"],
)
async def test_a_file_that_cannot_be_had_is_lost_and_its_message_says_so(
    account: OneAccount, fetcher: MediaFetcher, blobs: dict[str, bytes], failure: int
) -> None:
    await account.connected()
    account.driver.blobs.update(blobs)
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(size=4), ADA)
    await fetch(account, fetcher)
    assert stored_content(account).image.media.state == content_pb2.MEDIA_STATE_FAILED
    [event] = [event for event in account.stored(Event) if event.type == "media.failed"]
    assert event_media(event).failure == failure


@pytest.mark.parametrize(
    "error", [ConnectionEnded(End.LOST), RuntimeError("odd")], ids=["lost", "unforeseen"]
)
async def test_a_fetch_that_breaks_is_tried_again(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService, error: Exception
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(), ADA)
    service.error = error
    await fetch(account, fetcher)
    [again] = account.stored(FetchRetry)
    assert again.due_at > time.time_ns() // 1000
    assert account.stored(ContentUpdate) == []


class SlowService(MemoryMediaService):
    """Whose files never come to an end, but those of `quick`."""

    def __init__(self) -> None:
        super().__init__()
        self.quick: UUID | None = None

    async def upload(
        self, tenant: UUID, header: media_pb2.UploadHeader, pieces: AsyncIterator[bytes]
    ) -> media_pb2.Media:
        if tenant != self.quick:
            self.headers.append(header)
            await asyncio.Event().wait()
        return await super().upload(tenant, header, pieces)


async def test_slow_files_of_one_tenant_hold_up_no_other_tenants(account: OneAccount) -> None:
    slow, other = SlowService(), OneAccount(replace(account_row(new_uuid()), tenant=new_uuid()))
    slow.quick = other.session.context.ref.tenant
    messages = cast("Any", account.messages)
    fetcher = MediaFetcher(cast("Any", slow), messages, ContentChanges(ReferenceLookup(messages)), 8, 1000)
    await account.connected()
    await other.connected()
    other.driver.blobs["cat"] = b"miao"
    for number in range(50):
        slow_one = new_uuid()
        account.messages.add(slow_one, f"SLOW{number}", pb.DIRECTION_INBOUND, picture(), ADA)
        fetcher.add(account.session.context, slow_one, b"slow")
    await account.settle()
    assert len(slow.headers) == 2, "what one account has of eight places"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(), ADA)
    await fetch(other, fetcher)
    assert stored_content(other).image.media.media_id == MEDIA
    await other.host.close()


async def test_a_file_that_takes_too_long_for_its_size_makes_room_and_is_tried_again(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def at_once(seconds: float) -> asyncio.Timeout:
        given.append(seconds)
        return asyncio.timeout_at(0)

    monkeypatch.setattr("mesh_session_node.inbound.media.timeout", at_once)
    messages = cast("Any", account.messages)
    changes = ContentChanges(ReferenceLookup(messages))
    fetcher = MediaFetcher(cast("Any", SlowService()), messages, changes, 1, 16 * 2**20)
    await account.connected()
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(size=16 * 2**20), ADA)
    for number in (1, 2):
        await fetch(account, fetcher)
        assert len(account.stored(FetchRetry)) == number, "the next one finds a place"
    assert given == [START_SECONDS + 256.0] * 2


@pytest.mark.parametrize("size", [-1, 0, 10**12])
async def test_a_size_that_is_not_the_files_loses_nothing(
    account: OneAccount, fetcher: MediaFetcher, service: MemoryMediaService, size: int
) -> None:
    await account.connected()
    account.driver.blobs["cat"] = b"miao"
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(size=size), ADA)
    await fetch(account, fetcher)
    assert stored_content(account).image.media.media_id == MEDIA
    [header] = service.headers
    assert 0 <= header.size_bytes <= 1000


async def test_more_bytes_than_were_announced_have_time_to_come(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    mib = 2**20
    given: list[asyncio.Timeout] = []

    def timed(seconds: float) -> asyncio.Timeout:
        given.append(asyncio.timeout(seconds))
        return given[-1]

    monkeypatch.setattr("mesh_session_node.inbound.media.timeout", timed)
    messages = cast("Any", account.messages)
    changes = ContentChanges(ReferenceLookup(messages))
    fetcher = MediaFetcher(cast("Any", MemoryMediaService()), messages, changes, 1, 16 * mib)
    await account.connected()
    account.driver.blobs["cat"] = bytes(2 * mib)
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(size=0), ADA)
    began = asyncio.get_running_loop().time()
    await fetch(account, fetcher)
    [end] = given
    assert (end.when() or 0.0) >= began + START_SECONDS + 32


async def test_a_file_has_more_time_when_it_is_tried_again(
    account: OneAccount, fetcher: MediaFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def at_once(seconds: float) -> asyncio.Timeout:
        given.append(seconds)
        return asyncio.timeout_at(0)

    monkeypatch.setattr("mesh_session_node.inbound.media.timeout", at_once)
    await account.connected()
    account.messages.add(MESSAGE, "IN1", pb.DIRECTION_INBOUND, picture(size=0), ADA)
    for attempts in (0, 1, 2, 3, 4):
        fetcher.add(account.session.context, MESSAGE, b"cat", attempts)
        await account.settle()
    assert given == [START_SECONDS * factor for factor in (1, 2, 4, 8, 8)]


def event_media(event: Event) -> media_pb2.Media:
    return event_pb2.Event.FromString(event.body).media.media
