"""Contents between the API's form and the simulated network's."""

from __future__ import annotations

import pytest

from mesh_session_node.drivers.interface.content import Blob, MediaPart, References, address_of, recipient_of
from mesh_session_node.drivers.simulated.encoding import from_wire, to_wire
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, message_pb2
from sessionmesh.v1.common_pb2 import Recipient


def there_and_back(content: content_pb2.Content, media: MediaPart | None = None) -> content_pb2.Content:
    payload, _ = to_wire(message_pb2.SendMessageRequest(content=content), References(), media, ())
    return from_wire(wire.Inbound(id="1", content=payload)).content


@pytest.mark.parametrize(
    "content",
    [
        content_pb2.Content(text=content_pb2.TextContent(body="a\0b")),
        content_pb2.Content(location=content_pb2.LocationContent(latitude=52.5, longitude=13.4)),
        content_pb2.Content(poll=content_pb2.PollContent(question="Tea?", answers=["yes", "no"])),
        content_pb2.Content(contacts=content_pb2.ContactsContent()),
    ],
    ids=lambda content: content.WhichOneof("kind"),
)
def test_a_content_arrives_as_it_was_sent(content: content_pb2.Content) -> None:
    assert there_and_back(content) == content


@pytest.mark.parametrize("kind", ["image", "video", "audio", "voice", "document", "sticker"])
def test_a_file_arrives_as_its_kind_to_be_fetched(kind: str) -> None:
    content = content_pb2.Content()
    getattr(content, kind).SetInParent()
    part = MediaPart(Blob("ref", b"x" * 32, 7), "image/jpeg", "photo.jpg", 10, 20)
    arrived = there_and_back(content, part)
    assert arrived.WhichOneof("kind") == kind
    media = getattr(arrived, kind).media
    assert (media.size, media.mime_type, media.state) == (7, "image/jpeg", content_pb2.MEDIA_STATE_PENDING)


def test_what_cannot_be_read_is_kept_as_it_came() -> None:
    for raw in (b"\xff\xff", wire.Content(other=wire.Other(kind="hologram", body=b"?")).SerializeToString()):
        assert from_wire(wire.Inbound(id="1", content=raw)).content.unknown.raw == raw


@pytest.mark.parametrize("kind", ["phone", "user_id", "group_id", "hidden_id"])
def test_an_address_leads_back_to_its_recipient(kind: str) -> None:
    recipient = Recipient()
    setattr(recipient, kind, "+4915112345678")
    assert recipient_of(address_of(recipient)) == recipient
