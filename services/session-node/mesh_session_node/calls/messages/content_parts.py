"""Parts that several kinds of content have: files, places, products, web addresses; and what is not served.

Lengths are in characters, which are Unicode code points, where nothing else is said.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mesh_core import validation
from mesh_core.errors import InvalidField, Unimplemented
from mesh_core.ids import Prefix, decode
from sessionmesh.v1 import content_pb2

MAX_CAPTION = 1024
MAX_FILE_NAME = 255
MAX_URL = 2048
MAX_INLINE = 64_000
"""Bytes of a file inside a request."""
MAX_BODY = 1024
"""Of the text of an interactive message."""
MAX_FOOTER = 60
MAX_HEADER = 60
MAX_SECTIONS = 10


def not_served(field: str, what: str = "") -> Unimplemented:
    """The error for a field, or `what` in it, that this version knows and does not serve."""
    return Unimplemented(f"{field}: {what or 'it'} is not served by this version", "NOT_SERVED")


def check_url(field: str, url: str) -> None:
    """A web address; required."""
    validation.required_text(field, url, MAX_URL)
    if not _web(url):
        raise InvalidField(field, "must be a web address, with http:// or https://")


def check_file(field: str, shown: Any) -> None:
    """A kind of content that is a file."""
    media: content_pb2.MediaReference = shown.media
    if media.inline_data:
        _check_inline(f"{field}.media", media)
    elif not media.media_id:
        raise InvalidField(f"{field}.media.media_id", "is required, or inline_data")
    else:
        decode(Prefix.MEDIA, media.media_id, f"{field}.media.media_id")
    fields = shown.DESCRIPTOR.fields_by_name
    if "caption" in fields:
        validation.text(f"{field}.caption", shown.caption, MAX_CAPTION)
    if "file_name" in fields:
        validation.text(f"{field}.file_name", shown.file_name, MAX_FILE_NAME)
    if "waveform" in fields and shown.waveform and (len(shown.waveform) != 64 or max(shown.waveform) > 100):
        raise InvalidField(f"{field}.waveform", "must be 64 levels of 0 to 100")


def _check_inline(field: str, media: content_pb2.MediaReference) -> None:
    if media.media_id:
        raise InvalidField(f"{field}.inline_data", "must not be there with media_id")
    if len(media.inline_data) > MAX_INLINE:
        raise InvalidField(f"{field}.inline_data", f"must be at most {MAX_INLINE:,} bytes: use UploadMedia")
    validation.text(f"{field}.mime_type", media.mime_type, 255)


def check_coordinates(
    field: str, place: content_pb2.LocationContent | content_pb2.LiveLocationContent
) -> None:
    """Where a place is; that it has coordinates is checked before."""
    if not -90 <= place.latitude <= 90:
        raise InvalidField(f"{field}.latitude", "must be between -90 and 90")
    if not -180 <= place.longitude <= 180:
        raise InvalidField(f"{field}.longitude", "must be between -180 and 180")


def check_location(field: str, place: content_pb2.LocationContent) -> None:
    """A place; that it has coordinates is checked before."""
    check_coordinates(field, place)
    validation.text(f"{field}.name", place.name, 1024)
    validation.text(f"{field}.street_address", place.street_address, 1024)
    if place.url:
        check_url(f"{field}.url", place.url)


def check_product(field: str, product: content_pb2.ProductContent) -> None:
    """A product of a catalogue; that it has its ids is checked before."""
    validation.text(f"{field}.body", product.body, MAX_BODY)
    validation.text(f"{field}.footer", product.footer, MAX_FOOTER)


def clear_outputs(message: Message) -> None:
    """Clear what is not a caller's to say."""
    outputs, parts = _behaviors(message.DESCRIPTOR)
    for name in outputs:
        message.ClearField(name)
    for name, repeated in parts:
        if repeated:
            for one in getattr(message, name):
                clear_outputs(one)
        elif message.HasField(name):
            clear_outputs(getattr(message, name))


@cache
def _behaviors(descriptor: Descriptor) -> tuple[list[str], list[tuple[str, bool]]]:
    """A message's fields that are output only, and those that are messages: name, and whether repeated."""
    outputs: list[str] = []
    parts: list[tuple[str, bool]] = []
    for field in descriptor.fields:
        if field_behavior_pb2.OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
            outputs.append(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            parts.append((field.name, field.is_repeated))
    return outputs, parts


_web = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE).fullmatch
