"""In what category messages refer to their files."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from mesh_core.ids import Prefix, decode, new_id, new_uuid
from mesh_session_node.context.media_uses import fetched_media_use, outgoing_media_use, revoked_media_use
from sessionmesh.v1 import content_pb2, media_pb2

MEDIA = new_id(Prefix.MEDIA)
PERSON = "phone:+4915112345678"


def content(kind: str, **fields: Any) -> content_pb2.Content:
    made = content_pb2.Content()
    ParseDict({kind: {"media": {"media_id": MEDIA}, **fields}}, made)
    return made


def text() -> content_pb2.Content:
    return content_pb2.Content(text=content_pb2.TextContent(body="Hello"))


def category(made: content_pb2.Content, chat: str = PERSON, *, sent: bool = False) -> str:
    if sent:
        use = outgoing_media_use(new_uuid(), made, chat, None)
    else:
        use = fetched_media_use(new_uuid(), MEDIA, made, chat, sent=False)
    assert use is not None
    assert use.media == decode(Prefix.MEDIA, MEDIA, "media_id")
    number = media_pb2.MediaCategory.ValueType(use.category)
    return media_pb2.MediaCategory.Name(number).removeprefix("MEDIA_CATEGORY_")


@pytest.mark.parametrize("kind", ["image", "video", "audio", "voice_note", "document", "sticker"])
def test_a_file_is_of_a_message_that_was_sent_or_received(kind: str) -> None:
    assert category(content(kind), sent=True) == "SENT"
    assert category(content(kind)) == "RECEIVED"


@pytest.mark.parametrize("kind", ["image", "video", "voice_note"])
def test_what_can_be_opened_once_is_so_whoever_sent_it(kind: str) -> None:
    assert category(content(kind, view_once=True), sent=True) == "VIEW_ONCE"
    assert category(content(kind, view_once=True)) == "VIEW_ONCE"


def test_a_status_post_is_one_also_where_it_can_be_opened_once() -> None:
    assert category(content("image"), "status") == "STATUS"
    assert category(content("image", view_once=True), "status", sent=True) == "STATUS"


def test_a_message_that_is_taken_back_refers_to_what_it_said_before() -> None:
    use = revoked_media_use(new_uuid(), content("image"))
    assert use is not None
    assert use.category == media_pb2.MEDIA_CATEGORY_REVOKED


def test_a_file_that_was_fetched_for_a_message_that_was_taken_back_meanwhile_is_known_by_its_id() -> None:
    gone = content_pb2.Content(revoked=content_pb2.RevokedContent())
    use = fetched_media_use(new_uuid(), MEDIA, gone, PERSON, sent=False)
    assert use.category == media_pb2.MEDIA_CATEGORY_REVOKED


def test_what_is_no_file_and_a_file_that_is_not_stored_yet_refer_to_nothing() -> None:
    waiting = content_pb2.Content(image=content_pb2.ImageContent())
    for made in (text(), waiting):
        assert outgoing_media_use(new_uuid(), made, PERSON, None) is None
        assert revoked_media_use(new_uuid(), made) is None


def test_what_the_accounts_phone_sent_is_sent() -> None:
    use = fetched_media_use(new_uuid(), MEDIA, content("image"), PERSON, sent=True)
    assert use.category == media_pb2.MEDIA_CATEGORY_SENT


def test_a_file_is_kept_for_a_message_from_when_it_is_to_be_sent() -> None:
    use = outgoing_media_use(new_uuid(), content("image"), PERSON, 7)
    assert use is not None
    assert use.since == 7
