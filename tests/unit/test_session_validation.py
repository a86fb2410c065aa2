"""What a message to send must be like: each bound, and the field's path where it is crossed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import FailedPrecondition, InvalidField, Unimplemented
from mesh_core.ids import Prefix, new_id
from mesh_session_node.calls.messages.content_validation import INBOUND_ONLY, SENDABLE
from mesh_session_node.calls.messages.send_validation import CHANNEL_POSTED, POSTED, check_send
from mesh_session_node.store.media import MEDIA_KINDS, check_media
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2
from sessionmesh.v1.common_pb2 import MessageRef

MEDIA, MESSAGE = new_id(Prefix.MEDIA), new_id(Prefix.MESSAGE)
PARTY = "\N{PARTY POPPER}"
"""One character, four bytes of UTF-8."""
GOOD = {
    "location": "latitude: 52.5 longitude: 13.4",
    "contact_cards": 'cards { display_name: "Ada" }',
    "poll": 'question: "Tea?" answers: "yes" answers: "no"',
    "reaction": f'message {{ message_id: "{MESSAGE}" }} emoji: "{PARTY}"',
    "buttons": 'body: "Tea?" buttons { title: "Yes" reply_id: "1" }',
    "list": 'body: "Tea?" button_title: "Choose" sections { rows { reply_id: "1" title: "Green" } }',
    "template": 'name: "hello" language: "pt_BR"',
    "group_invite": 'group: "group:1" code: "abc"',
    "appointment": 'name: "Tea" start_time { seconds: 1700000000 }',
    "product": 'catalog_id: "1" product_id: "2"',
    "album": f'items {{ image {{ media {{ media_id: "{MEDIA}" }} }} }} '
    f'items {{ video {{ media {{ media_id: "{MEDIA}" }} }} }}',
    "live_location": "latitude: 52.5 longitude: 13.4",
    "poll_vote": f'poll {{ message_id: "{MESSAGE}" }}',
    "choice": f'message {{ message_id: "{MESSAGE}" }} reply_id: "1"',
    "product_list": 'catalog_id: "1" header: "Tea" body: "all" sections { product_ids: "2" }',
    "flow": 'body: "Order" flow_id: "9" button_title: "Begin"',
    "location_request": 'body: "Where?"',
    "address_request": 'body: "Where to?" country: "IN"',
    **dict.fromkeys(MEDIA_KINDS, f'media {{ media_id: "{MEDIA}" }}'),
}
"""The least that each kind needs, in the text format of protobuf."""


def request(**fields: Any) -> message_pb2.SendMessageRequest:
    made = message_pb2.SendMessageRequest(
        account_id=new_id(Prefix.ACCOUNT), request_id="r", recipient="phone:+4915112345678"
    )
    made.content.text.body = "hello"
    made.MergeFrom(message_pb2.SendMessageRequest(**fields))
    return made


def with_content(kind: str, more: str = "") -> message_pb2.SendMessageRequest:
    """A request with a good content, and what `more` adds to it, or sets to something else."""
    made = request()
    shown = getattr(made.content, kind)
    text_format.Merge(GOOD[kind], shown)
    shown.MergeFrom(text_format.Parse(more, type(shown)()))
    shown.SetInParent()
    return made


@contextmanager
def refused(field: str) -> Iterator[None]:
    with pytest.raises(InvalidField) as error:
        yield
    assert error.value.field == field


@contextmanager
def not_served(field: str) -> Iterator[None]:
    with pytest.raises(Unimplemented) as error:
        yield
    assert error.value.reason == "NOT_SERVED"
    assert error.value.message.startswith(f"{field}: ")


# The request


@pytest.mark.parametrize("where", ["", "content", "content.text", "options", "options.reply_to"])
def test_what_nobody_here_knows_of_a_request_is_not_stored(where: str) -> None:
    made = request(options=message_pb2.MessageOptions(reply_to=MessageRef(message_id=MESSAGE)))
    known = made.SerializeToString()
    part: Any = made
    for name in filter(None, where.split(".")):
        part = getattr(part, name)
    part.MergeFromString(b"\xfa\x7f\x80\x80\x40" + bytes(1024 * 1024))
    assert made.ByteSize() > 1024 * 1024
    check_send(made)
    assert made.SerializeToString() == known


def test_a_request_that_spells_defaults_out_is_the_same_as_one_that_does_not() -> None:
    plain, spelt = request(), request(priority=message_pb2.PRIORITY_NORMAL)
    spelt.account_id = plain.account_id
    spelt.content.text.preview_mode = content_pb2.LINK_PREVIEW_MODE_NONE
    spelt.options.disappear_after.SetInParent()
    check_send(plain)
    check_send(spelt)
    assert spelt == plain


def test_a_request_has_so_many_bytes_in_all() -> None:
    made = request()
    made.content.text.preview_mode = content_pb2.LINK_PREVIEW_MODE_CUSTOM
    made.content.text.preview.url = "https://example.org/"
    made.content.text.preview.thumbnail = b"\xff\xd8\xff" + bytes(60_000)
    made.content.text.body = "https://example.org/ " + "x" * (64 * 1024 - 21)
    made.options.mentions.extend(["user:" + "x" * 95] * 256)
    check_send(made)
    made.labels.update({f"{n:063}": PARTY * 255 for n in range(16)})
    with refused("content"):
        check_send(made)


def test_a_bare_number_becomes_an_address() -> None:
    made = request(recipient="+4915112345678")
    check_send(made)
    assert made.recipient == "phone:+4915112345678"


@pytest.mark.parametrize(
    "recipient", ["user:7", "hidden:8", "group:120363041234567890", "username:ada.lovelace"]
)
def test_people_and_groups_are_written_to(recipient: str) -> None:
    made = request(recipient=recipient)
    check_send(made)
    assert made.recipient == recipient


@pytest.mark.parametrize("kind", sorted(CHANNEL_POSTED - {"text"}))
def test_what_channels_take_is_posted_there(kind: str) -> None:
    made = with_content(kind)
    made.recipient = "channel:1"
    check_send(made)


def test_nothing_else_is_posted_in_channels() -> None:
    made = with_content("poll")
    made.recipient = "channel:1"
    with refused("content.poll"):
        check_send(made)


@pytest.mark.parametrize("option", ["reply_to", "mentions", "disappear_after"])
def test_posts_in_channels_neither_answer_nor_mention_nor_disappear(option: str) -> None:
    made = request(recipient="channel:1")
    made.options.reply_to.network_message_id = "1"
    made.options.mentions.append("phone:+4915112345678")
    made.options.disappear_after.seconds = 60
    for other in {"reply_to", "mentions", "disappear_after"} - {option}:
        made.options.ClearField(other)  # type: ignore[arg-type]  # one of three literals
    with refused(f"options.{option}"):
        check_send(made)


def test_what_can_be_seen_once_is_posted_in_no_channel() -> None:
    made = with_content("image")
    made.recipient, made.content.image.view_once = "channel:1", True
    with refused("content.image.view_once"):
        check_send(made)


@pytest.mark.parametrize("kind", sorted(POSTED))
def test_texts_pictures_films_and_voice_notes_are_posted(kind: str) -> None:
    made = request() if kind == "text" else with_content(kind)
    made.recipient = "status"
    check_send(made)


def test_nothing_else_is_posted() -> None:
    made = with_content("poll")
    made.recipient = "status"
    with refused("content.poll"):
        check_send(made)


def clear(*fields: str) -> Callable[[message_pb2.SendMessageRequest], None]:
    def spoil(made: message_pb2.SendMessageRequest) -> None:
        for field in fields:
            made.ClearField(field)  # type: ignore[arg-type]  # names of fields

    return spoil


@pytest.mark.parametrize("field", ["recipient", "content", "request_id"])
def test_what_is_required_is_missed(field: str) -> None:
    made = request()
    clear(field)(made)
    with refused(field):
        check_send(made)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("recipient", {"recipient": "0151 12345678"}),
        ("recipient", {"recipient": "phone:+49151123456789012"}),
        ("recipient", {"recipient": "group:120363041234567890@g.us"}),
        ("request_id", {"request_id": "r" * 65}),
        ("request_id", {"request_id": "a\0b"}),
        ("external_id", {"external_id": "e" * 129}),
        ("external_id", {"external_id": "a\0b"}),
        ("labels", {"labels": {str(number): "" for number in range(17)}}),
        ("labels", {"labels": {"k" * 64: ""}}),
        ("labels[k]", {"labels": {"k": "v" * 256}}),
        ("schedule_time", {"schedule_time": Timestamp(seconds=253_402_300_800)}),
        ("schedule_time", {"schedule_time": Timestamp(seconds=int(time.time()) + 31 * 86_400)}),
        ("schedule_time", {"schedule_time": Timestamp(nanos=1_000_000_000)}),
        ("expire_time", {"expire_time": Timestamp(seconds=253_402_300_800)}),
        ("priority", {"priority": 4}),
        ("priority", {"priority": -1}),
        ("wait_for", {"wait_for": 3}),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused_with_its_field(field: str, fields: dict[str, Any]) -> None:
    made = request()
    made.MergeFrom(message_pb2.SendMessageRequest(**fields))
    with refused(field):
        check_send(made)


def test_a_message_cannot_expire_before_it_is_due() -> None:
    now = int(time.time())
    begin = Timestamp(seconds=now + 100, nanos=900_000_000)
    made = request(schedule_time=begin, expire_time=Timestamp(seconds=now + 100, nanos=100_000_000))
    with refused("expire_time"):
        check_send(made)


# Options


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("options.reply_to.message_id", {"reply_to": MessageRef()}),
        ("options.reply_to.message_id", {"reply_to": MessageRef(message_id="msg_nonsense")}),
        ("options.reply_to.message_id", {"reply_to": MessageRef(chat="user:7")}),
        (
            "options.reply_to.network_message_id",
            {"reply_to": MessageRef(network_message_id="x" * 129)},
        ),
        ("options.reply_to.chat", {"reply_to": MessageRef(network_message_id="1", chat="Ada")}),
        ("options.reply_to.sender", {"reply_to": MessageRef(network_message_id="1", sender="group:1")}),
        (
            "options.reply_to.sender",
            {"reply_to": MessageRef(network_message_id="1", sender="user:7", from_account=True)},
        ),
        ("options.mentions[1]", {"mentions": ["user:7", "group:1"]}),
        ("options.mentions", {"mentions": ["user:7"] * 257}),
        ("options.disappear_after", {"disappear_after": Duration(seconds=-1)}),
        ("options.disappear_after", {"disappear_after": Duration(seconds=90 * 86_400 + 1)}),
        ("options.disappear_after", {"disappear_after": Duration(nanos=1)}),
        ("options.forward_score", {"forward_score": -1}),
        ("options.forward_score", {"forward_score": 128}),
    ],
)
def test_an_option_that_cannot_be_is_refused(field: str, options: dict[str, Any]) -> None:
    with refused(field):
        check_send(request(options=message_pb2.MessageOptions(**options)))


def test_addresses_in_options_become_canonical() -> None:
    ref = MessageRef(network_message_id="1", chat="+4915112345678", sender="+4915112345679")
    options = message_pb2.MessageOptions(mentions=["+4915112345678"], reply_to=ref, forward_score=127)
    made = request(options=options)
    check_send(made)
    assert list(made.options.mentions) == ["phone:+4915112345678"]
    assert made.options.reply_to.chat == "phone:+4915112345678"
    assert made.options.reply_to.sender == "phone:+4915112345679"


AUDIENCES = {
    "kind": "kind: 9",
    "addresses": "kind: STATUS_AUDIENCE_KIND_ONLY",
    "addresses[0]": 'kind: STATUS_AUDIENCE_KIND_ONLY addresses: "group:1"',
}


@pytest.mark.parametrize("field", AUDIENCES)
def test_an_audience_that_cannot_be_is_refused_with_its_field(field: str) -> None:
    made = request(recipient="status")
    text_format.Merge(AUDIENCES[field], made.options.audience)
    with refused(f"options.audience.{field}"):
        check_send(made)


def test_all_contacts_cannot_be_named() -> None:
    made = request(recipient="status")
    made.options.audience.addresses.append("phone:+4915112345678")
    with refused("options.audience.addresses"):
        check_send(made)


def test_who_sees_it_can_be_said_of_a_status_post_only() -> None:
    made = request()
    made.options.audience.kind = message_pb2.STATUS_AUDIENCE_KIND_CONTACTS
    with refused("options.audience"):
        check_send(made)
    made.recipient = "status"
    check_send(made)


# Texts


@pytest.mark.parametrize("body", ["x", "\0", PARTY, "x" * 65_536, "ä" * 32_768])
def test_texts_of_1_to_65536_bytes_are_taken(body: str) -> None:
    made = request()
    made.content.text.body = body
    check_send(made)


@pytest.mark.parametrize("body", ["", "x" * 65_537, "ä" * 32_769])
def test_empty_and_longer_texts_are_refused(body: str) -> None:
    made = request()
    made.content.text.body = body
    with refused("content.text.body"):
        check_send(made)


def text_with(more: str) -> message_pb2.SendMessageRequest:
    made = request()
    made.content.text.body = "see https://example.com"
    made.content.text.MergeFrom(text_format.Parse(more, content_pb2.TextContent()))
    return made


PREVIEW = 'preview_mode: LINK_PREVIEW_MODE_CUSTOM preview { url: "https://example.com" '


@pytest.mark.parametrize(
    "more",
    [
        "preview_mode: LINK_PREVIEW_MODE_NONE",
        PREVIEW + f'title: "{PARTY * 300}" description: "{PARTY * 1000}" }}',
        PREVIEW + r'thumbnail: "\377\330\377" }',
    ],
)
def test_a_text_may_bring_its_preview(more: str) -> None:
    check_send(text_with(more))


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("preview_mode", "preview_mode: 4"),
        ("preview", "preview_mode: LINK_PREVIEW_MODE_CUSTOM"),
        ("preview", 'preview { url: "https://example.com" }'),
        ("preview.url", "preview_mode: LINK_PREVIEW_MODE_CUSTOM preview { }"),
        ("preview.url", 'preview_mode: LINK_PREVIEW_MODE_CUSTOM preview { url: "https://other.example" }'),
        ("preview.url", 'preview_mode: LINK_PREVIEW_MODE_CUSTOM preview { url: "see" }'),
        ("preview.title", PREVIEW + f'title: "{"x" * 301}" }}'),
        ("preview.description", PREVIEW + f'description: "{"x" * 1001}" }}'),
        ("preview.thumbnail", PREVIEW + r'thumbnail: "\211PNG" }'),
        ("preview.thumbnail", PREVIEW + rf'thumbnail: "\377\330\377{"x" * 64_000}" }}'),
    ],
)
def test_a_preview_that_cannot_be_shown_is_refused(field: str, more: str) -> None:
    with refused(f"content.text.{field}"):
        check_send(text_with(more))


def test_how_a_text_is_shown_can_be_said_of_a_status_post_only() -> None:
    made = text_with('style { background_color: "#00ff7F" text_color: "#000000" font: TEXT_FONT_EXO2 }')
    with refused("content.text.style"):
        check_send(made)
    made.recipient = "status"
    check_send(made)


@pytest.mark.parametrize(
    ("field", "style"),
    [
        ("background_color", 'background_color: "red"'),
        ("text_color", 'text_color: "#12345"'),
        ("font", "font: 99"),
    ],
)
def test_a_style_that_cannot_be_is_refused(field: str, style: str) -> None:
    made = text_with(f"style {{ {style} }}")
    made.recipient = "status"
    with refused(f"content.text.style.{field}"):
        check_send(made)


# The other kinds


@pytest.mark.parametrize("kind", sorted(SENDABLE - {"text"}))
def test_the_least_that_a_kind_needs_is_enough(kind: str) -> None:
    check_send(with_content(kind))


@pytest.mark.parametrize("kind", sorted(INBOUND_ONLY))
def test_kinds_that_only_arrive_cannot_be_sent(kind: str) -> None:
    made = request()
    getattr(made.content, kind).SetInParent()
    with refused(f"content.{kind}"):
        check_send(made)


def test_every_other_kind_is_sent() -> None:
    assert {*content_pb2.Content.DESCRIPTOR.fields_by_name} == SENDABLE | INBOUND_ONLY


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("image", "caption", 1024),
        ("video", "caption", 1024),
        ("document", "caption", 1024),
        ("document", "file_name", 255),
        ("location", "name", 1024),
        ("location", "street_address", 1024),
        ("contact_cards", "cards[0].display_name", 255),
        ("poll", "question", 255),
        ("poll", "answers[0]", 100),
        ("buttons", "body", 1024),
        ("buttons", "footer", 60),
        ("buttons", "header.text", 60),
        ("buttons", "buttons[0].title", 25),
        ("buttons", "buttons[0].reply_id", 256),
        ("buttons", "buttons[0].copy_text", 256),
        ("list", "body", 4096),
        ("list", "footer", 60),
        ("list", "header", 60),
        ("list", "button_title", 20),
        ("list", "sections[0].title", 24),
        ("list", "sections[0].rows[0].reply_id", 200),
        ("list", "sections[0].rows[0].title", 24),
        ("list", "sections[0].rows[0].description", 72),
        ("template", "name", 512),
        ("group_invite", "group_name", 100),
        ("group_invite", "caption", 1024),
        ("appointment", "name", 100),
        ("appointment", "description", 2048),
        ("product", "body", 1024),
        ("product", "footer", 60),
        ("album", "items[0].image.caption", 1024),
        ("live_location", "caption", 1024),
        ("choice", "reply_id", 256),
        ("choice", "title", 25),
        ("choice", "description", 72),
        ("product_list", "header", 60),
        ("product_list", "body", 1024),
        ("product_list", "footer", 60),
        ("product_list", "sections[0].title", 24),
        ("flow", "body", 1024),
        ("flow", "footer", 60),
        ("flow", "header.text", 60),
        ("flow", "button_title", 30),
        ("flow", "parameters.token", 256),
        ("location_request", "body", 1024),
        ("address_request", "body", 1024),
    ],
)
def test_a_texts_bound_is_in_characters(kind: str, field: str, value: int) -> None:
    made = with_content(kind)
    set_text(getattr(made.content, kind), field, PARTY * value)
    check_send(made)
    set_text(getattr(made.content, kind), field, "x" * (value + 1))
    with refused(f"content.{kind}.{field}"):
        check_send(made)


def set_text(shown: Any, path: str, value: str) -> None:
    """Set a field by its path; of a list the first entry."""
    *way, last = path.split(".")
    for step in way:
        shown = getattr(shown, step.removesuffix("[0]"))
        if step.endswith("[0]"):
            shown = shown[0]
    if last.endswith("[0]"):
        getattr(shown, last.removesuffix("[0]"))[0] = value
    else:
        setattr(shown, last, value)


BUTTONS = 'buttons { title: "No" reply_id: "2" } '
ROWS = 'sections { rows { reply_id: "2" title: "Black" } } '


@pytest.mark.parametrize(
    ("kind", "field", "more"),
    [
        ("image", "media.media_id", 'media { media_id: "med_nonsense" }'),
        ("document", "file_name", r'file_name: "cat\000"'),
        ("image", "media.inline_data", 'media { inline_data: "x" }'),
        ("voice_note", "waveform", 'waveform: "abc"'),
        ("voice_note", "waveform", f'waveform: "{"z" * 64}"'),
        ("location", "latitude", "latitude: 90.1"),
        ("location", "latitude", "latitude: nan"),
        ("location", "longitude", "longitude: -180.1"),
        ("location", "longitude", "longitude: inf"),
        ("location", "url", 'url: "ftp://example.com"'),
        ("location", "url", f'url: "https://example.com/{"x" * 2048}"'),
        ("contact_cards", "cards[1].display_name", "cards { }"),
        ("contact_cards", "cards", 'cards { display_name: "Ada" } ' * 100),
        ("contact_cards", "cards[1].vcard", f'cards {{ display_name: "A" vcard: "{"x" * 64_001}" }}'),
        ("poll", "answers", 'answers: "yes"'),
        ("poll", "answers[2]", 'answers: ""'),
        ("poll", "answers", " ".join(f'answers: "{number}"' for number in range(11))),
        ("poll", "max_choices", "max_choices: 3"),
        ("poll", "max_choices", "max_choices: -1"),
        ("reaction", "emoji", f'emoji: "{PARTY * 17}"'),
        ("reaction", "emoji", 'emoji: "hello"'),
        ("reaction", "emoji", 'emoji: " "'),
        ("reaction", "message.sender", 'message { sender: "user:7" from_account: true }'),
        ("buttons", "buttons", BUTTONS * 10),
        ("buttons", "buttons[1]", 'buttons { title: "No" }'),
        ("buttons", "buttons[1].title", 'buttons { reply_id: "2" }'),
        ("buttons", "buttons[1].url", 'buttons { title: "No" url: "example.com" }'),
        ("buttons", "buttons[1].phone", 'buttons { title: "No" phone: "0151" }'),
        ("buttons", "header", "header { }"),
        ("list", "sections", ROWS * 10),
        ("list", "sections[1].rows", 'sections { title: "none" }'),
        ("list", "sections[1].rows[0].title", 'sections { rows { reply_id: "2" } }'),
        ("template", "language", 'language: "german"'),
        ("template", "header", "header { }"),
        ("template", "body[0]", "body { }"),
        ("template", "body[0].money.currency", 'body { money { currency: "euro" } }'),
        ("template", "body[0].time", "body { time { seconds: 253402300800 } }"),
        ("template", "header.text", "header { text { } }"),
        ("template", "header.location.latitude", "header { location { longitude: 1 } }"),
        ("template", "buttons[0].index", 'buttons { index: -1 reply_id: "1" }'),
        ("template", "buttons[1].index", 'buttons { reply_id: "1" } buttons { reply_id: "1" }'),
        ("template", "buttons[0]", "buttons { }"),
        ("template", "buttons[0].flow.data_json", 'buttons { flow { data_json: "[1]" } }'),
        ("template", "buttons[0].flow.data_json", f'buttons {{ flow {{ data_json: "{"[" * 5000}" }} }}'),
        ("template", "buttons[0].products.sections", "buttons { products { } }"),
        ("template", "cards", "cards { }"),
        ("template", "offer_expire_time", "offer_expire_time { seconds: -62135596801 }"),
        ("group_invite", "group", 'group: "user:7"'),
        ("group_invite", "expire_time", "expire_time { nanos: -1 }"),
        ("appointment", "start_time", "start_time { seconds: 253402300800 }"),
        ("appointment", "end_time", "end_time { seconds: 1 }"),
        ("appointment", "location.latitude", "location { latitude: 91 longitude: 0 }"),
        ("appointment", "join_url", 'join_url: "call me"'),
        ("album", "items", f'items {{ image {{ media {{ media_id: "{MEDIA}" }} }} }} ' * 29),
        ("album", "items[2]", "items { }"),
        ("album", "items[2].image.media.media_id", 'items { image { media { media_id: "no" } } }'),
        ("live_location", "latitude", "latitude: -91"),
        ("live_location", "longitude", "longitude: 181"),
        ("live_location", "accuracy", "accuracy: -1"),
        ("live_location", "speed", "speed: -0.1"),
        ("live_location", "heading", "heading: 360"),
        ("live_location", "duration", "duration { seconds: 60 }"),
        ("poll_vote", "answers", " ".join(f'answers: "{number}"' for number in range(13))),
        ("poll_vote", "answers", 'answers: "yes" answers: "yes"'),
        ("poll_vote", "answers[0]", f'answers: "{"x" * 101}"'),
        ("poll_vote", "poll.sender", 'poll { sender: "user:7" from_account: true }'),
        ("choice", "message.message_id", 'message { message_id: "msg_no" }'),
        ("product_list", "sections", 'sections { title: "none" } ' * 10),
        ("product_list", "sections", 'sections { product_ids: "1" } ' * 10 + 'sections { product_ids: "1" }'),
        ("product_list", "sections[1].product_ids[0]", 'sections { product_ids: "" }'),
        ("flow", "header", "header { }"),
        ("flow", "parameters.data_json", 'parameters { data_json: "[]" }'),
        ("address_request", "country", 'country: "India"'),
        ("address_request", "values[city]", f'values {{ key: "city" value: "{"x" * 300}" }}'),
    ],
)
def test_a_content_that_cannot_be_is_refused_with_its_field(kind: str, field: str, more: str) -> None:
    with refused(f"content.{kind}.{field}"):
        check_send(with_content(kind, more))


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        *((kind, "media") for kind in MEDIA_KINDS),
        ("location", "latitude"),
        ("location", "longitude"),
        ("contact_cards", "cards"),
        ("poll", "question"),
        ("poll", "answers"),
        ("reaction", "message"),
        ("buttons", "body"),
        ("buttons", "buttons"),
        ("list", "body"),
        ("list", "button_title"),
        ("list", "sections"),
        ("template", "name"),
        ("template", "language"),
        ("group_invite", "group"),
        ("group_invite", "code"),
        ("appointment", "name"),
        ("appointment", "start_time"),
        ("product", "catalog_id"),
        ("product", "product_id"),
        ("album", "items"),
        ("live_location", "latitude"),
        ("live_location", "longitude"),
        ("poll_vote", "poll"),
        ("choice", "message"),
        ("choice", "reply_id"),
        ("product_list", "catalog_id"),
        ("product_list", "header"),
        ("product_list", "body"),
        ("product_list", "sections"),
        ("flow", "body"),
        ("flow", "flow_id"),
        ("flow", "button_title"),
        ("location_request", "body"),
        ("address_request", "body"),
        ("address_request", "country"),
    ],
)
def test_what_a_kind_requires_is_missed(kind: str, field: str) -> None:
    made = with_content(kind)
    getattr(made.content, kind).ClearField(field)
    with refused(f"content.{kind}.{field}"):
        check_send(made)


@pytest.mark.parametrize(
    ("kind", "field", "more"),
    [
        ("buttons", "header.image", "header { image { } }"),
        ("flow", "header.document", "header { document { } }"),
        ("template", "header.video", "header { video { } }"),
        ("template", "cards[0].header.image", "cards { header { image { } } } cards { }"),
    ],
)
def test_what_is_not_sent_yet_is_named(kind: str, field: str, more: str) -> None:
    with not_served(f"content.{kind}.{field}"):
        check_send(with_content(kind, more))


def test_what_the_mesh_says_of_a_content_cannot_be_said_by_a_caller() -> None:
    made = with_content("image", "width: 7 media { size_bytes: 7 state: MEDIA_STATE_FAILED }")
    check_send(made)
    assert made.content == with_content("image").content


def test_a_content_over_128_kib_is_refused() -> None:
    made = request()
    for _ in range(3):
        made.content.contact_cards.cards.add(display_name="Ada", vcard="x" * 60_000)
    with refused("content"):
        check_send(made)


# Files


def test_a_files_own_bytes_may_be_in_the_request() -> None:
    made = with_content("image")
    made.content.image.media.ClearField("media_id")
    made.content.image.media.inline_data = b"x" * 64_000
    check_send(made)
    made.content.image.media.inline_data += b"x"
    with refused("content.image.media.inline_data"):
        check_send(made)


def test_a_document_may_have_any_name_that_the_network_takes() -> None:
    check_send(with_content("document", r'file_name: "../offers/C:\\2026.pdf"'))


@pytest.mark.parametrize(
    ("kind", "mime_type"),
    [
        ("image", "video/mp4"),
        ("image", "image/bmp"),
        ("image", "image/tiff"),
        ("image", "image/svg+xml"),
        ("image", "image/avif"),
        ("image", "image/webp"),
        ("video", "image/png"),
        ("video", "image/gif"),
        ("video", "video/x-msvideo"),
        ("audio", "image/png"),
        ("audio", "audio/wav"),
        ("voice_note", "audio/mpeg"),
        ("sticker", "image/png"),
    ],
)
def test_a_file_that_networks_do_not_show_as_this_kind_is_refused(kind: str, mime_type: str) -> None:
    content = content_pb2.Content()
    getattr(content, kind).media.media_id = MEDIA
    media = media_pb2.Media(id="med", state=content_pb2.MEDIA_STATE_READY, mime_type=mime_type)
    with refused(f"content.{kind}.media.media_id"):
        check_media(content, media)


@pytest.mark.parametrize("side", [64, 512])
def test_a_sticker_has_the_size_of_one(side: int) -> None:
    content = content_pb2.Content()
    content.sticker.media.media_id = MEDIA
    media = media_pb2.Media(
        state=content_pb2.MEDIA_STATE_READY, mime_type="image/webp", width=side, height=512
    )
    if side == 512:
        check_media(content, media)
        return
    with refused("content.sticker.media.media_id"):
        check_media(content, media)


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("UNSPECIFIED", True), ("COMPRESSED_ALREADY", True), ("OFF", True), ("TOO_COMPLEX", False)],
)
def test_a_film_that_phones_may_not_play_is_refused(reason: str, sent: bool) -> None:
    content = content_pb2.Content()
    content.video.media.media_id = MEDIA
    media = media_pb2.Media(
        state=content_pb2.MEDIA_STATE_READY,
        mime_type="video/mp4",
        unprocessed_reason=media_pb2.UnprocessedReason.Value(f"UNPROCESSED_REASON_{reason}"),
    )
    if sent:
        check_media(content, media)
        return
    with refused("content.video.media.media_id"):
        check_media(content, media)


@pytest.mark.parametrize(("kind", "mime_type"), [("image", "image/webp"), ("voice_note", "audio/amr")])
def test_what_came_from_the_network_may_go_there_again(kind: str, mime_type: str) -> None:
    content = content_pb2.Content()
    getattr(content, kind).media.media_id = MEDIA
    origin = media_pb2.MEDIA_ORIGIN_NETWORK
    check_media(
        content, media_pb2.Media(state=content_pb2.MEDIA_STATE_READY, mime_type=mime_type, origin=origin)
    )


def test_any_file_can_be_a_document_but_only_when_it_is_ready() -> None:
    content = content_pb2.Content()
    content.document.media.media_id = MEDIA
    media = media_pb2.Media(id="med", state=content_pb2.MEDIA_STATE_READY, mime_type="text/csv")
    check_media(content, media)
    media.state = content_pb2.MEDIA_STATE_PENDING
    with pytest.raises(FailedPrecondition) as error:
        check_media(content, media)
    assert error.value.reason == "MEDIA_NOT_READY"
