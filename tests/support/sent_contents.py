"""A content of each kind that is sent, what others see of it, and whether it is the same."""

from __future__ import annotations

from typing import Any

import pyvips
from google.protobuf import text_format

from sessionmesh.v1 import content_pb2, media_pb2
from sessionmesh.v1.common_pb2 import MessageRef
from sessionmesh.v1.content_pb2 import Content
from tests.support.media_processing import film, sound
from tests.support.mesh_api import Caller

SENT = {
    "text": r'body: "Tea? \000 \360\237\215\265 https://example.org" preview_mode: LINK_PREVIEW_MODE_CUSTOM '
    r'preview { url: "https://example.org" title: "Tea" description: "All" thumbnail: "\377\330\377" }',
    "image": 'caption: "my cat" view_once: true',
    "video": 'caption: "my cat" gif_playback: true',
    "audio": "",
    "voice_note": "view_once: true",
    "document": 'file_name: "cat.pdf" caption: "my cat"',
    "sticker": "animated: true",
    "location": 'latitude: 0 longitude: -0.5 name: "Null" street_address: "Sea" url: "https://example.org"',
    "contact_cards": r'cards { display_name: "Ada" vcard: "BEGIN:VCARD\nVERSION:3.0\nFN:Ada\nEND:VCARD" }',
    "poll": 'question: "Tea?" answers: "yes" answers: "no" max_choices: 1',
    "reaction": r'emoji: "\360\237\215\265"',
    "buttons": 'body: "Tea?" footer: "free" header { text: "Hello" } buttons { title: "Yes" reply_id: "1" }'
    'buttons { title: "Shop" url: "https://example.org" } buttons { title: "Call" phone: "+4915112345678" }'
    'buttons { title: "Copy" copy_text: "TEA" }',
    "list": 'body: "Tea?" footer: "free" header: "Hello" button_title: "Choose" '
    'sections { title: "Green" rows { reply_id: "1" title: "Sencha" description: "mild" } }',
    "template": 'name: "hello" language: "pt_BR" header { text { text: "Ada" } } '
    'body { name: "price" money { currency: "EUR" amount_1000: 1500 } } buttons { index: 0 reply_id: "1" }',
    "group_invite": 'group: "group:1" code: "abc" group_name: "Tea" caption: "come" '
    "expire_time { seconds: 4000000000 }",
    "appointment": 'name: "Tea" description: "all of it" start_time { seconds: 1700000000 } '
    "end_time { seconds: 1700003600 } location { latitude: 1 longitude: 2 } cancelled: true "
    'join_url: "https://example.org"',
    "product": 'catalog_id: "1" product_id: "2" title: "Tea" body: "green" footer: "free"',
    "album": "",
    "live_location": "latitude: 1 longitude: 2 accuracy: 0 speed: 0.5 heading: 0 "
    'caption: "here" duration { seconds: 900 }',
    "poll_vote": 'answers: "yes"',
    "choice": 'reply_id: "1" title: "Yes" description: "mild"',
    "product_list": 'catalog_id: "1" header: "Tea" body: "all" sections { title: "Green" product_ids: "2" }',
    "flow": 'body: "Order" flow_id: "9" button_title: "Begin" parameters { token: "t" screen: "FIRST" }',
    "location_request": 'body: "Where?"',
    "address_request": 'body: "Where to?" country: "IN" values { key: "city" value: "Pune" }',
}
"""A content of each kind that is sent, in the text format of protobuf; files and references are added."""
ABOUT = {"reaction": ("message", "text"), "poll_vote": ("poll", "poll"), "choice": ("message", "buttons")}
"""Kinds that are about another one: the field that names it, and its kind."""
PARTS = 2
"""Of the album, each a message of its own."""


def content(kind: str, text: str, files: dict[str, media_pb2.Media] | None = None) -> Content:
    made = Content()
    shown: Any = getattr(made, kind)
    shown.SetInParent()
    text_format.Parse(text, shown)
    if files and kind in files:
        shown.media.media_id = files[kind].id
    elif files and kind == "album":
        for _ in range(PARTS):
            shown.items.add().image.media.media_id = files["image"].id
    return made


async def uploads(caller: Caller) -> dict[str, media_pb2.Media]:
    """A small file for each kind that is one."""
    picture = pyvips.Image.black(64, 64) + 128
    webp = (pyvips.Image.black(512, 512) + 128).cast("uchar").webpsave_buffer()
    files = {
        "image": picture.cast("uchar").jpegsave_buffer(),
        "video": film(),
        "audio": sound(),
        "voice_note": sound("-c:a", "libopus", kind="ogg"),
        "document": b"%PDF-1.7\n" + bytes(100),
        "sticker": webp,
    }
    return {kind: await caller.upload(data, f"a.{kind}") for kind, data in files.items()}


def kind_of(what: Content) -> str:
    return what.WhichOneof("kind") or ""


def as_others_see(what: Content) -> Content:
    """The content as it comes to others, without its file: of an album how many parts it has."""
    if kind_of(what) == "album":
        return Content(album=content_pb2.AlbumContent(image_count=PARTS))
    return without_file(what)


def without_file(what: Content) -> Content:
    """The content without its file, which is fetched after the message came, and without votes."""
    rest = Content()
    rest.CopyFrom(what)
    shown = getattr(rest, kind_of(rest))
    if rest.HasField("poll"):
        rest.poll.ClearField("totals")
    if "media" in shown.DESCRIPTOR.fields_by_name:
        shown.ClearField("media")
        for name in ("width", "height", "duration"):
            if name in shown.DESCRIPTOR.fields_by_name:
                shown.ClearField(name)
    return rest


def says(shown: Any, wanted: Any) -> bool:
    """Whether `shown` has all that `wanted` has. References go by the network's ids; a mode is not told."""
    for field, value in wanted.ListFields():
        present = getattr(shown, field.name)
        if isinstance(value, MessageRef):
            if value.network_message_id and present.network_message_id != value.network_message_id:
                return False
        elif field.message_type is not None and not field.is_repeated:
            if not says(present, value):
                return False
        elif field.name not in ("preview_mode", "message_id") and present != value:
            return False
    return True
