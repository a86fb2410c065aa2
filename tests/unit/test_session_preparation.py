"""Messages that need something before they can be sent: their chat waits for them, the others do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from mesh_core.ids import Prefix, encode, new_id, new_uuid
from mesh_core.rpc.auth import Identity, Role, assume
from mesh_session_node.drivers.interface.content import OutgoingMessage, Reference, References
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Failure
from mesh_session_node.drivers.interface.pairing import Paired
from mesh_session_node.drivers.interface.state import StateUnavailable
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_session_node.journal import AccountRef
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.preparation import CannotPrepare, Preparation
from mesh_session_node.outbound.preparing import MAX_TRIES
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.internal.v1.linked_device_pb2 import DeviceMessage
from sessionmesh.v1 import content_pb2, media_pb2, session_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef, Person
from sessionmesh.v1.content_pb2 import LINK_PREVIEW_MODE_NONE, LinkPreview
from tests.support.memory_host import PHONE, OneAccount, content_of
from tests.support.memory_journal import Clock

OTHER = "+4915100000009"
MEDIA = new_id(Prefix.MEDIA)


async def test_a_picture_is_sent_when_the_network_has_its_file(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    assert account.on_the_network == []
    assert account.preparing == [out]
    await account.prepared(out, "ref")
    [message] = account.driver.link.sent
    assert (message.network_id, list(message.blobs)) == (out.network_id, ["ref"])


async def test_an_answer_waits_for_the_message_that_it_refers_to(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("yes", options=pb.MessageOptions(reply_to=MessageRef(message_id="msg_1")))
    assert account.preparing == [out]
    assert account.on_the_network == []


async def test_a_chat_keeps_its_order_behind_a_picture(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    assert account.on_the_network == []
    await account.prepared(out, "ref")
    assert account.on_the_network == ["cat.png", "this is my cat"]


async def test_other_chats_do_not_wait_for_a_picture(account: OneAccount) -> None:
    await account.connected()
    await account.send("cat.png")
    await account.send("hello", OTHER)
    assert account.on_the_network == ["hello"]


async def test_a_picture_that_is_being_prepared_counts_as_waiting(account: OneAccount) -> None:
    account.limit(outbox=1)
    await account.connected()
    await account.send("cat.png")
    assert account.shown.counters.queued == 1
    with pytest.raises(ResourceExhausted):
        account.accept("hello")


async def test_a_file_that_cannot_be_had_now_is_tried_again_and_its_chat_waits(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    await account.prepared(out, error=CannotPrepare("the store is away", final=False))
    assert account.preparing == []
    await clock.skip(1.1)
    assert account.preparing == [out]
    await account.prepared(out, "ref")
    assert account.on_the_network == ["cat.png", "this is my cat"]
    assert account.statuses(out) == []


async def test_a_file_that_stays_out_of_reach_is_tried_ever_more_rarely_and_in_the_end_fails_its_message(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    pauses = []
    while not account.changes(out):
        await account.prepared(out, error=CannotPrepare("the store is away", final=False))
        pauses.append(0)
        while not (account.preparing or account.changes(out)):
            await clock.skip(1.0)
            pauses[-1] += 1
    assert len(pauses) == MAX_TRIES
    assert [*pauses[:4], *pauses[-2:]] == [1, 2, 4, 8, 60, 0]
    [change] = account.changes(out)
    assert (change.status, change.failure_detail) == (pb.MESSAGE_STATUS_FAILED, "the store is away")
    assert account.on_the_network == ["this is my cat"]


async def test_a_message_can_be_cancelled_while_it_waits_to_be_prepared_again(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    await account.prepared(out, error=CannotPrepare("the store is away", final=False))
    assert account.session.sender.cancel(out.uuid) is out
    assert account.on_the_network == ["this is my cat"]


async def test_a_message_whose_file_the_network_lost_is_prepared_again_after_a_pause(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.prepared(out, "ref")
    account.driver.link.reject(out.network_id, Failure.BLOB_GONE)
    await account.settle()
    assert account.preparing == []
    await clock.skip(1.1)
    assert account.preparing == [out]


@pytest.mark.parametrize("reason", [pb.FAILURE_REASON_MEDIA_UNAVAILABLE, pb.FAILURE_REASON_CONTENT_REFUSED])
async def test_a_file_that_can_never_be_had_fails_its_message_and_lets_the_chat_go_on(
    account: OneAccount, reason: pb.FailureReason.ValueType
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    await account.prepared(out, error=CannotPrepare("no such file", reason))
    [change] = account.changes(out)
    assert (change.status, change.failure, change.failure_detail) == (
        pb.MESSAGE_STATUS_FAILED,
        reason,
        "no such file",
    )
    assert account.on_the_network == ["this is my cat"]


async def test_a_picture_that_becomes_ready_offline_is_sent_after_the_next_login(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    account.driver.link.end(End.LOST)
    await account.prepared(out, "ref")
    account.session.connect()
    await account.dial()
    assert account.on_the_network == ["cat.png"]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (
            FailedPrecondition("the network has no files", "UNSUPPORTED_BY_NETWORK"),
            "the network has no files",
        ),
        (ValueError("oops"), "it cannot be prepared"),
    ],
    ids=["unsupported", "unexpected"],
)
async def test_what_fails_in_preparation_fails_the_message_and_is_not_tried_for_ever(
    account: OneAccount, error: Exception, detail: str
) -> None:
    await account.connected()
    out = await account.send("a.png")
    await account.prepared(out, error=error)
    [change] = account.changes(out)
    assert (change.status, change.failure_detail) == (pb.MESSAGE_STATUS_FAILED, detail)
    assert account.preparing == []


@pytest.mark.parametrize("error", [None, CannotPrepare("no such file")], ids=["ready", "failed"])
async def test_a_picture_whose_account_has_left_is_the_next_owners(
    account: OneAccount, error: Exception | None
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    account.session.close()
    await account.prepared(out, error=error)
    assert account.on_the_network == []
    assert account.statuses(out) == []
    assert account.shown.counters.queued == 0


@pytest.mark.parametrize("end", [End.LOGGED_OUT, End.BANNED])
async def test_a_picture_fails_with_the_pairing_whatever_comes_of_its_file(
    account: OneAccount, end: End
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    waiter = account.session.sender.waiters.add(out.uuid)
    account.driver.link.end(end)
    [change] = account.changes(out)
    assert (change.status, change.failure) == (
        pb.MESSAGE_STATUS_FAILED,
        pb.FAILURE_REASON_ACCOUNT_CLOSED,
    )
    assert waiter.done()
    assert waiter.result() is out
    assert account.shown.counters.queued == 0
    await account.prepared(out, "ref")
    assert account.statuses(out) == [pb.MESSAGE_STATUS_FAILED]


async def test_a_picture_that_failed_with_its_pairing_is_not_sent_by_the_next_one(
    account: OneAccount,
) -> None:
    await account.connected()
    old = await account.send("cat.png")
    account.session.log_out()
    account.session.pairing_begun()
    state = account.driver.pair_at_once(PHONE)
    account.session.pairing_done(state, account.session.pairing_rows(Paired(state))[0])
    await account.dial()
    new = await account.send("dog.png")
    await account.send("this is my dog")
    await account.prepared(old, "ref")
    assert account.on_the_network == []
    await account.prepared(new, "ref")
    await account.journal.commit()  # of the ratchet's positions
    assert account.on_the_network == ["dog.png", "this is my dog"]


async def test_a_picture_can_be_cancelled_while_it_is_prepared(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    assert account.session.sender.cancel(out.uuid) is out
    assert account.on_the_network == ["this is my cat"]
    await account.prepared(out, "ref")
    assert account.on_the_network == ["this is my cat"]


async def test_preparing_does_not_use_the_limits_up(account: OneAccount) -> None:
    account.limit(per_minute=1)
    await account.connected()
    out = await account.send("cat.png")
    await account.send("hello", OTHER)
    assert account.on_the_network == ["hello"]
    await account.prepared(out, "ref")
    assert account.on_the_network == ["hello"]


async def test_nothing_is_prepared_that_the_limits_do_not_let_out(account: OneAccount, clock: Clock) -> None:
    account.limit(per_minute=2)
    await account.connected()
    first, second, third = [await account.send("cat.png", f"+491510000001{n}") for n in range(3)]
    assert account.preparing == [first, second]
    await account.prepared(first, "ref")
    assert account.preparing == [second]
    await account.prepared(second, "ref")
    account.driver.link.answer()
    assert account.preparing == []
    await clock.skip(66)
    await account.settle()
    assert account.preparing == [third]


# What is looked up and handed over


class MemoryMedia:
    """Stands for `MediaClient`: one file, which may be gone or out of reach."""

    def __init__(self) -> None:
        self.media = media_pb2.Media(id=MEDIA, mime_type="image/png", file_name="cat.png", width=3, height=2)
        self.error: Exception | None = None
        self.pieces = [b"cat", b"!"]

    async def get(self, _tenant: UUID, media_id: str) -> media_pb2.Media:
        assert media_id == MEDIA
        if self.error is not None:
            raise self.error
        return self.media

    async def download(self, _tenant: UUID, _media_id: str) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


class MemoryPreviews:
    """Pages on the web, by their addresses."""

    def __init__(self) -> None:
        self.pages: dict[str, LinkPreview] = {}
        self.asked: list[str] = []

    async def read(self, url: str, _owner: AccountRef) -> LinkPreview | None:
        self.asked.append(url)
        return self.pages.get(url)


@pytest.fixture
def media() -> MemoryMedia:
    return MemoryMedia()


@pytest.fixture
def previews() -> MemoryPreviews:
    return MemoryPreviews()


@pytest.fixture
def preparation(account: OneAccount, media: MemoryMedia, previews: MemoryPreviews) -> Preparation:
    lookup = ReferenceLookup(cast("Any", account.messages))
    return Preparation(lookup, cast("Any", media), cast("Any", previews))


def picture() -> Outgoing:
    request = pb.SendMessageRequest()
    request.content.image.media.media_id = MEDIA
    return Outgoing(new_uuid(), "ID", f"phone:{OTHER}", request, "")


def answer_to(message: UUID) -> Outgoing:
    request = pb.SendMessageRequest(content=content_of("yes"))
    request.options.reply_to.message_id = encode(Prefix.MESSAGE, message)
    return Outgoing(new_uuid(), "ID", f"phone:{OTHER}", request, "")


async def test_a_key_that_is_limited_to_accounts_sends_no_files_of_others(
    account: OneAccount, preparation: Preparation, media: MemoryMedia
) -> None:
    media.media.state = content_pb2.MEDIA_STATE_READY
    media.media.account_id = new_id(Prefix.ACCOUNT)
    context, request = account.session.context, picture().request
    accounts = frozenset({account.session.id})
    assume(Identity(Role.TENANT, account.account.tenant, "key", frozenset(), accounts))
    with pytest.raises(NotFound):
        await preparation.check(context, request)
    media.media.account_id = account.session.id
    await preparation.check(context, request)


async def test_a_file_is_handed_to_the_network_and_named_in_the_message(
    account: OneAccount, preparation: Preparation
) -> None:
    await account.connected()
    prepared = await preparation.prepare(account.session.context, picture())
    [(ref, data)] = account.driver.blobs.items()
    assert data == b"cat!"
    assert list(prepared.blobs) == [ref]


async def test_an_answer_names_the_networks_id_and_the_author_of_what_it_answers(
    account: OneAccount, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await account.connected()
    earlier = new_uuid()
    came = pb.Message(sender=Person(address=f"phone:{OTHER}"), content=content_of("tea?"))
    chat = f"phone:{OTHER}"
    account.messages.add(earlier, "IN1", pb.DIRECTION_INBOUND, came.SerializeToString(), chat)
    given: list[References] = []

    def encode_references(
        _request: object, references: References, _media: object
    ) -> tuple[bytes, tuple[str, ...]]:
        given.append(references)
        return b"", ()

    monkeypatch.setattr(account.driver, "encode", encode_references)
    await preparation.prepare(account.session.context, answer_to(earlier))
    assert given == [References(reply_to=Reference("IN1", chat, chat, content_of("tea?")))]


async def test_a_message_that_is_gone_is_never_answered(
    account: OneAccount, preparation: Preparation
) -> None:
    await account.connected()
    with pytest.raises(CannotPrepare) as failed:
        await preparation.prepare(account.session.context, answer_to(new_uuid()))
    assert failed.value.final


# What was sent before, for those who could not read it


def sent(account: OneAccount, request: pb.SendMessageRequest, status: int = pb.MESSAGE_STATUS_SENT) -> str:
    """A message that the account has sent, and the network's id of it."""
    message = new_uuid()
    network_id = account.driver.network_id(message)
    content, outbound = request.SerializeToString(), pb.DIRECTION_OUTBOUND
    account.messages.add(message, network_id, outbound, content, f"phone:{OTHER}", status=status)
    return network_id


async def test_a_message_that_was_sent_is_said_again_as_it_was(
    account: OneAccount, preparation: Preparation
) -> None:
    request = pb.SendMessageRequest(content=content_of("hello"))
    network_id = sent(account, request)
    again = await preparation.sent(account.session.context, network_id)
    payload, _ = account.driver.encode(request, References(), None)
    assert again == OutgoingMessage(network_id, f"phone:{OTHER}", payload)


async def test_an_answer_that_was_sent_still_names_what_it_answers(
    account: OneAccount, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = sent(account, pb.SendMessageRequest(content=content_of("tea?")))
    uuid = account.driver.message_of(earlier)
    assert uuid is not None
    answer = sent(account, answer_to(uuid).request)
    given: list[References] = []

    def encode(_request: object, references: References, _media: object) -> tuple[bytes, tuple[str, ...]]:
        given.append(references)
        return b"", ()

    monkeypatch.setattr(account.driver, "encode", encode)
    await preparation.sent(account.session.context, answer)
    assert [one.reply_to and one.reply_to.network_id for one in given] == [earlier]


@pytest.mark.parametrize(
    "status", [pb.MESSAGE_STATUS_FAILED, pb.MESSAGE_STATUS_CANCELLED, pb.MESSAGE_STATUS_EXPIRED]
)
async def test_a_message_that_never_left_is_not_said_to_whoever_asks(
    account: OneAccount, preparation: Preparation, status: int
) -> None:
    network_id = sent(account, pb.SendMessageRequest(content=content_of("hello")), status)
    assert await preparation.sent(account.session.context, network_id) is None


async def test_nothing_is_said_again_of_messages_that_are_not_the_accounts(
    account: OneAccount, preparation: Preparation
) -> None:
    came = pb.Message(sender=Person(address=f"phone:{OTHER}"), content=content_of("tea?"))
    account.messages.add(new_uuid(), "IN1", pb.DIRECTION_INBOUND, came.SerializeToString())
    for network_id in ("IN1", account.driver.network_id(new_uuid())):
        assert await preparation.sent(account.session.context, network_id) is None


async def test_a_picture_is_said_again_with_what_is_known_of_it_and_the_driver_knows_where_it_is(
    account: OneAccount, preparation: Preparation, media: MemoryMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account.driver, "encode", WhatsappWebDriver(WhatsappWebSettings()).encode)
    again = await preparation.sent(account.session.context, sent(account, picture().request))
    assert again is not None
    said = DeviceMessage.FromString(again.payload)
    assert said.media == media.media
    assert said.request == picture().request
    assert not said.HasField("file")


async def test_a_picture_that_is_deleted_is_not_said_again(
    account: OneAccount, preparation: Preparation, media: MemoryMedia
) -> None:
    media.error = NotFound("media", MEDIA)
    assert await preparation.sent(account.session.context, sent(account, picture().request)) is None


async def test_a_picture_is_asked_for_again_while_nobody_knows_of_it(
    account: OneAccount, preparation: Preparation, media: MemoryMedia
) -> None:
    media.error = Unavailable("away", "BACKEND_UNAVAILABLE")
    with pytest.raises(StateUnavailable):
        await preparation.sent(account.session.context, sent(account, picture().request))


async def test_a_message_that_was_revoked_is_not_said_again(
    account: OneAccount, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = pb.SendMessageRequest()
    request.content.revoked.SetInParent()
    encode = WhatsappWebDriver(WhatsappWebSettings()).encode
    monkeypatch.setattr(account.driver, "encode", encode)
    network_id = sent(account, request)
    assert await preparation.sent(account.session.context, network_id) is None


async def test_a_message_is_asked_for_again_while_the_database_does_not_answer(
    account: OneAccount, preparation: Preparation
) -> None:
    network_id = sent(account, pb.SendMessageRequest(content=content_of("hello")))
    account.messages.unavailable = True
    with pytest.raises(StateUnavailable):
        await preparation.sent(account.session.context, network_id)


@pytest.mark.parametrize(
    "error", [Unavailable("away", "BACKEND_UNAVAILABLE"), ConnectionEnded(End.LOST), ConnectionRefusedError()]
)
async def test_what_is_out_of_reach_is_tried_again(
    account: OneAccount, preparation: Preparation, media: MemoryMedia, error: Exception
) -> None:
    await account.connected()
    media.error = error
    with pytest.raises(CannotPrepare) as failed:
        await preparation.prepare(account.session.context, picture())
    assert not failed.value.final


async def test_a_file_that_is_gone_fails_its_message(
    account: OneAccount, preparation: Preparation, media: MemoryMedia
) -> None:
    await account.connected()
    media.error = NotFound("media", MEDIA)
    with pytest.raises(CannotPrepare) as failed:
        await preparation.prepare(account.session.context, picture())
    assert (failed.value.final, failed.value.reason) == (True, pb.FAILURE_REASON_MEDIA_UNAVAILABLE)


async def test_a_file_that_the_network_refuses_fails_its_message(
    account: OneAccount, preparation: Preparation
) -> None:
    await account.connected()
    account.driver.link.max_file_bytes = 3
    with pytest.raises(CannotPrepare) as failed:
        await preparation.prepare(account.session.context, picture())
    assert (failed.value.final, failed.value.reason) == (True, pb.FAILURE_REASON_CONTENT_REFUSED)


async def test_a_file_waits_for_the_connection(account: OneAccount, preparation: Preparation) -> None:
    account.load(session_pb2.SESSION_STATE_PAUSED)
    with pytest.raises(CannotPrepare) as failed:
        await preparation.prepare(account.session.context, picture())
    assert not failed.value.final


LINK = "https://example.org/a"


async def test_a_text_that_asks_for_a_preview_waits_until_its_page_was_read(account: OneAccount) -> None:
    await account.connected()
    out = await account.send(f"see {LINK}")
    assert account.preparing == [out]


async def test_a_text_is_sent_with_what_its_page_says(
    account: OneAccount, preparation: Preparation, previews: MemoryPreviews
) -> None:
    await account.connected()
    previews.pages[LINK] = LinkPreview(url=LINK, title="Example")
    out = text_with_link()
    prepared = await preparation.prepare(account.session.context, out)
    sent = pb.SendMessageRequest.FromString(prepared.payload)
    assert sent.content.text.preview == previews.pages[LINK]
    assert not out.request.content.text.HasField("preview")


async def test_a_text_whose_page_says_nothing_is_sent_without(
    account: OneAccount, preparation: Preparation, previews: MemoryPreviews
) -> None:
    await account.connected()
    prepared = await preparation.prepare(account.session.context, text_with_link())
    assert previews.asked == [LINK]
    assert not pb.SendMessageRequest.FromString(prepared.payload).content.text.HasField("preview")


async def test_no_page_is_read_for_a_text_that_does_not_ask_for_it(
    account: OneAccount, preparation: Preparation, previews: MemoryPreviews
) -> None:
    await account.connected()
    out = text_with_link()
    out.request.content.text.preview_mode = LINK_PREVIEW_MODE_NONE
    await preparation.prepare(account.session.context, out)
    assert previews.asked == []


def text_with_link() -> Outgoing:
    request = pb.SendMessageRequest(content=content_of(f"see {LINK}"))
    return Outgoing(new_uuid(), "ID", f"phone:{OTHER}", request, "")
