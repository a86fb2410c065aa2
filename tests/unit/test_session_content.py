"""Contents between the API's form and the simulated network's."""

from __future__ import annotations

import pytest

from mesh_session_node.calls.messages.content_validation import SENDABLE
from mesh_session_node.drivers.interface.content import (
    Blob,
    Identity,
    MediaPart,
    Reference,
    References,
    is_person,
    person_of,
)
from mesh_session_node.drivers.simulated.driver import SimulatedDriver
from mesh_session_node.drivers.simulated.encoding import from_wire, to_wire
from mesh_session_node.inbound.bounds import MAX_BLOB
from mesh_session_node.inbound.fitting import fit_incoming
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2
from sessionmesh.v1.common_pb2 import MessageRef, Person


def there_and_back(content: content_pb2.Content, media: MediaPart | None = None) -> content_pb2.Content:
    payload, _ = to_wire(message_pb2.SendMessageRequest(content=content), References(), media)
    return from_wire(wire.Inbound(id="1", content=payload)).content


@pytest.mark.parametrize(
    "content",
    [
        content_pb2.Content(text=content_pb2.TextContent(body="a\0b")),
        content_pb2.Content(location=content_pb2.LocationContent(latitude=52.5, longitude=13.4)),
        content_pb2.Content(poll=content_pb2.PollContent(question="Tea?", answers=["yes", "no"])),
        content_pb2.Content(contact_cards=content_pb2.ContactCardsContent()),
    ],
    ids=lambda content: content.WhichOneof("kind"),
)
def test_a_content_arrives_as_it_was_sent(content: content_pb2.Content) -> None:
    assert there_and_back(content) == content


def picture() -> MediaPart:
    media = media_pb2.Media(mime_type="image/jpeg", file_name="photo.jpg", width=10, height=20)
    return MediaPart(Blob("ref", b"x" * 32, 7), media)


@pytest.mark.parametrize("kind", ["image", "video", "audio", "voice_note", "document", "sticker"])
def test_a_file_arrives_as_its_kind_to_be_fetched(kind: str) -> None:
    content = content_pb2.Content()
    getattr(content, kind).SetInParent()
    arrived = there_and_back(content, picture())
    assert arrived.WhichOneof("kind") == kind
    media = getattr(arrived, kind).media
    assert (media.size_bytes, media.mime_type) == (7, "image/jpeg")
    assert media.state == content_pb2.MEDIA_STATE_PENDING


@pytest.mark.parametrize(
    "content",
    [
        content_pb2.Content(image=content_pb2.ImageContent(caption="my cat", view_once=True)),
        content_pb2.Content(video=content_pb2.VideoContent(gif_playback=True)),
        content_pb2.Content(video=content_pb2.VideoContent(video_note=True)),
        content_pb2.Content(voice_note=content_pb2.VoiceNoteContent(waveform=b"a" * 64, view_once=True)),
        content_pb2.Content(sticker=content_pb2.StickerContent(animated=True)),
        content_pb2.Content(document=content_pb2.DocumentContent(file_name="cat.pdf", caption="my cat")),
    ],
    ids=lambda content: content.WhichOneof("kind"),
)
def test_how_a_file_is_shown_arrives_with_it(content: content_pb2.Content) -> None:
    kind = content.WhichOneof("kind") or ""
    arrived = getattr(there_and_back(content, picture()), kind)
    for field, value in getattr(content, kind).ListFields():
        assert getattr(arrived, field.name) == value


@pytest.mark.parametrize("view_once", [False, True])
def test_a_file_is_shown_before_it_is_fetched_unless_it_can_be_opened_once(view_once: bool) -> None:
    part = picture()
    part.media.thumbnail.preview = b"small"
    content = content_pb2.Content(image=content_pb2.ImageContent(view_once=view_once))
    payload, _ = to_wire(message_pb2.SendMessageRequest(content=content), References(), part)
    assert wire.Content.FromString(payload).blob.thumbnail == (b"" if view_once else b"small")


def test_a_sticker_that_moves_is_sent_as_one_without_being_told() -> None:
    part = picture()
    part.media.animated = True
    content = content_pb2.Content(sticker=content_pb2.StickerContent())
    assert there_and_back(content, part).sticker.animated


def test_an_answer_repeats_what_it_answers() -> None:
    request = message_pb2.SendMessageRequest()
    request.content.text.body = "yes"
    request.options.SetInParent()
    asked = content_pb2.Content(text=content_pb2.TextContent(body="tea?"))
    payload, _ = to_wire(request, References(Reference("EARLIER", "phone:+49", "hidden:7", asked)), None)
    came = from_wire(wire.Inbound(id="1", content=payload))
    assert came.reply_to == Reference("EARLIER", "", "hidden:7", asked)


def test_a_preview_arrives_with_its_text() -> None:
    text = content_pb2.TextContent(
        body="see https://example.com", preview_mode=content_pb2.LINK_PREVIEW_MODE_CUSTOM
    )
    text.preview.url, text.preview.title = "https://example.com", "Example"
    arrived = there_and_back(content_pb2.Content(text=text))
    assert arrived.text.preview == text.preview


def test_ids_of_the_mesh_in_what_arrives_are_not_believed() -> None:
    vote = content_pb2.PollVoteContent(poll=MessageRef(message_id="msg_1", network_message_id="POLL"))
    other = wire.Other(kind="poll_vote", body=vote.SerializeToString())
    came = from_wire(wire.Inbound(id="1", content=wire.Content(other=other).SerializeToString()))
    assert came.content.poll_vote.poll.message_id == ""
    assert came.target == Reference("POLL")


def test_a_time_that_cannot_be_shown_is_taken_out_and_the_rest_comes_through() -> None:
    appointment = content_pb2.AppointmentContent(name="Dentist")
    appointment.start_time.seconds, appointment.end_time.seconds = 10**15, 1_700_000_000
    other = wire.Other(kind="appointment", body=appointment.SerializeToString())
    came = from_wire(wire.Inbound(id="1", content=wire.Content(other=other).SerializeToString()))
    shown = fit_incoming(came).content.appointment
    assert (shown.name, shown.HasField("start_time")) == ("Dentist", False)
    assert shown.end_time == appointment.end_time


def test_a_file_that_needs_too_much_to_be_fetched_has_failed_and_its_message_comes_through() -> None:
    blob = wire.Blob(shown_as="image", ref="r" * MAX_BLOB, caption="look")
    came = from_wire(wire.Inbound(id="1", content=wire.Content(blob=blob).SerializeToString()))
    fitting = fit_incoming(came)
    assert fitting.blob is None
    assert fitting.content.image.media.state == content_pb2.MEDIA_STATE_FAILED
    assert fitting.content.image.caption == "look"


def test_a_number_that_no_content_can_carry_is_the_largest_that_one_can() -> None:
    blob = wire.Blob(shown_as="video", width=2**32 - 1, size=2**64 - 1)
    came = from_wire(wire.Inbound(id="1", content=wire.Content(blob=blob).SerializeToString()))
    assert (came.content.video.width, came.content.video.media.size_bytes) == (2**31 - 1, 2**63 - 1)


def test_the_driver_sends_what_the_api_takes() -> None:
    assert SimulatedDriver.content_kinds == SENDABLE


def test_what_cannot_be_read_is_kept_as_it_came() -> None:
    for raw in (b"\xff\xff", wire.Content(other=wire.Other(kind="hologram", body=b"?")).SerializeToString()):
        assert from_wire(wire.Inbound(id="1", content=raw)).content.unknown.raw == raw


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("phone:+4915112345678", {"phone": "+4915112345678"}),
        ("user:7", {"user_id": "7"}),
        ("hidden:8", {"hidden_id": "8"}),
        ("username:ada", {"username": "ada"}),
    ],
)
def test_a_persons_address_says_something_of_them(address: str, said: dict[str, str]) -> None:
    assert is_person(address)
    assert person_of(address) == Person(address=address, **said)


def test_a_person_has_what_the_network_says_and_the_name_they_show() -> None:
    person = person_of("hidden:8", Identity(user_id="7", username="ada"), "Ada")
    assert person == Person(
        address="hidden:8", hidden_id="8", user_id="7", username="ada", display_name="Ada"
    )


@pytest.mark.parametrize("address", ["group:1", "channel:1", "status"])
def test_other_chats_are_nobody(address: str) -> None:
    assert not is_person(address)
