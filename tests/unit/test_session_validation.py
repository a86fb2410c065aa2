"""What a message to send must be like."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_core.ids import Prefix, new_id
from mesh_session_node.calls import content_validation as validation
from mesh_session_node.store.media import check_media
from sessionmesh.v1 import common_pb2, content_pb2, media_pb2, message_pb2


def request() -> message_pb2.SendMessageRequest:
    made = message_pb2.SendMessageRequest(account_id=new_id(Prefix.ACCOUNT), request_id="r")
    made.recipient.phone = "+4915112345678"
    made.content.text.body = "hello"
    return made


@pytest.mark.parametrize("body", ["x", "\0", "\N{PARTY POPPER}", "x" * 65_536, "ä" * 32_768])
def test_texts_of_1_to_65536_bytes_are_taken(body: str) -> None:
    made = request()
    made.content.text.body = body
    validation.check_send(made)


@pytest.mark.parametrize("body", ["", "x" * 65_537, "ä" * 32_769])
def test_empty_and_longer_texts_are_refused(body: str) -> None:
    made = request()
    made.content.text.body = body
    with pytest.raises(InvalidField) as refused:
        validation.check_send(made)
    assert refused.value.field == "content.text.body"


def no_recipient(made: message_pb2.SendMessageRequest) -> None:
    made.ClearField("recipient")


def unset_recipient(made: message_pb2.SendMessageRequest) -> None:
    made.recipient.CopyFrom(common_pb2.Recipient())


def unknown_recipient_kind(made: message_pb2.SendMessageRequest) -> None:
    # Field 99 of Recipient: a kind that a later version of the API may have.
    made.recipient.CopyFrom(common_pb2.Recipient.FromString(b"\x9a\x06\x01x"))


def malformed_phone(made: message_pb2.SendMessageRequest) -> None:
    made.recipient.phone = "0151 12345678"


def no_content(made: message_pb2.SendMessageRequest) -> None:
    made.ClearField("content")


def empty_text(made: message_pb2.SendMessageRequest) -> None:
    made.content.text.body = ""


def oversized_text(made: message_pb2.SendMessageRequest) -> None:
    made.content.text.body = "x" * (65_537)


def received_only_content(made: message_pb2.SendMessageRequest) -> None:
    made.content.revoked.SetInParent()


def malformed_media_id(made: message_pb2.SendMessageRequest) -> None:
    made.content.image.media.media_id = "med_nonsense"


def malformed_reply(made: message_pb2.SendMessageRequest) -> None:
    made.options.reply_to_message_id = "msg_nonsense"


def no_request_id(made: message_pb2.SendMessageRequest) -> None:
    made.request_id = ""


def long_request_id(made: message_pb2.SendMessageRequest) -> None:
    made.request_id = "r" * 65


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (no_recipient, "recipient"),
        (unset_recipient, "recipient"),
        (unknown_recipient_kind, "recipient"),
        (malformed_phone, "recipient.phone"),
        (no_content, "content"),
        (empty_text, "content.text.body"),
        (oversized_text, "content.text.body"),
        (received_only_content, "content.revoked"),
        (malformed_media_id, "content.image.media.media_id"),
        (malformed_reply, "options.reply_to_message_id"),
        (no_request_id, "request_id"),
        (long_request_id, "request_id"),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused_with_its_field(
    spoil: Callable[[message_pb2.SendMessageRequest], None], field: str
) -> None:
    made = request()
    spoil(made)
    with pytest.raises(InvalidField) as refused:
        validation.check_send(made)
    assert refused.value.field == field


@pytest.mark.parametrize("kind", ["live_location", "poll_vote", "choice", "order", "revoked", "unknown"])
def test_kinds_that_only_arrive_cannot_be_sent(kind: str) -> None:
    made = request()
    getattr(made.content, kind).SetInParent()
    with pytest.raises(InvalidField, match="cannot be sent"):
        validation.check_send(made)


def test_a_content_over_128_kib_is_refused() -> None:
    made = request()
    made.content.contacts.cards.add(display_name="Ada", vcard="x" * 131_073)
    with pytest.raises(InvalidField) as refused:
        validation.check_send(made)
    assert refused.value.field == "content"


@pytest.mark.parametrize(
    ("kind", "mime_type"),
    [("image", "video/mp4"), ("video", "image/png"), ("audio", "image/png"), ("sticker", "image/png")],
)
def test_a_file_of_another_kind_is_refused(kind: str, mime_type: str) -> None:
    content = content_pb2.Content()
    getattr(content, kind).media.media_id = new_id(Prefix.MEDIA)
    media = media_pb2.Media(id="med", state=content_pb2.MEDIA_STATE_READY, mime_type=mime_type)
    with pytest.raises(InvalidField) as refused:
        check_media(content, media)
    assert refused.value.field == f"content.{kind}.media.media_id"


def test_any_file_can_be_a_document_but_only_when_it_is_ready() -> None:
    content = content_pb2.Content()
    content.document.media.media_id = new_id(Prefix.MEDIA)
    media = media_pb2.Media(id="med", state=content_pb2.MEDIA_STATE_READY, mime_type="text/csv")
    check_media(content, media)
    media.state = content_pb2.MEDIA_STATE_PENDING
    with pytest.raises(FailedPrecondition) as refused:
        check_media(content, media)
    assert refused.value.reason == "MEDIA_NOT_READY"
