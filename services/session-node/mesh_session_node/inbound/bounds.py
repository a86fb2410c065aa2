"""What strangers sent, made fit to be stored and shown: one walker over messages, and one table of bounds.

Whoever writes to an account decides what stands in its messages, and their apps need not be honest. Nothing
is refused for that: what no consumer can render is taken out or cut, and counted, and the rest comes through.
After it the proto JSON of a message can be made, and each of its texts fits where it is stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mesh_core import addresses
from mesh_core.errors import InvalidField
from mesh_core.metrics import counters
from mesh_core.validation import stored_text
from mesh_session_node.drivers.interface.outcomes import MAX_DETAIL

CHANGED = counters(
    "mesh_foreign_values_changed_total",
    "Values from the network that were cut or taken out.",
    answers="Do strangers send what is too large or odd?",
    kind=("address", "enum", "id", "list", "message", "number", "size", "text", "time"),
)
MAX_CONTENT: Final = 256 * 1024
"""Bytes of a serialised content; a larger one is shown as unknown."""
MAX_BLOB: Final = 64 * 1024
"""Bytes of what a driver needs to fetch a file; a file that needs more has failed."""
MAX_ID: Final = 128
"""Characters of a network's id of a message: what callers can name it with."""
MAX_NAME: Final = 512
"""Characters of what people call themselves."""
MAX_ENTRIES: Final = 256
"""Entries of a list or a map where the table says nothing else."""


def changed(kind: str) -> None:
    """Count a value that had to be changed."""
    CHANGED.labels(kind).inc()


def fit(message: Message) -> None:
    """Make everything in a message fit, in place."""
    message.DiscardUnknownFields()
    _fit(message)


def fit_text(text: str, most: int) -> str:
    """A text with at most `most` characters, without NUL."""
    fitting = stored_text(text, most)
    if fitting != text:
        changed("text")
    return fitting


def fit_id(network_id: str) -> str:
    """The network's id of a message as it is stored and named by callers. One that cannot be is told apart by
    its digest: the same id gives the same one, so that what comes again is recognised.
    """
    if (
        len(network_id) <= MAX_ID
        and (network_id.isascii() or _encodes(network_id))
        and "\0" not in network_id
    ):
        return network_id
    changed("id")
    return f"unfit-{_digest(network_id)}"


def fit_address(address: str) -> str:
    """A canonical address. What has no valid form becomes the address of somebody who cannot be written to,
    always the same one.
    """
    try:
        return addresses.parse("", address)
    except InvalidField:
        changed("address")
    kind = address.partition(":")[0]
    return f"{kind if kind in ('group', 'channel') else 'hidden'}:unfit-{_digest(address)}"


def fit_time(micros: int, now: int) -> int:
    """Microseconds since the epoch; `now` for what is no time, or more than a day ahead."""
    if 0 < micros <= now + _AHEAD:
        return micros
    changed("time")
    return now


def fit_phone(phone: str) -> str:
    """A number in E.164; "" for anything else."""
    return _or_nothing("phone:" + phone) and phone


def fit_user(kind: str, value: str) -> str:
    """An id of the kind that an address begins with, or a user name; "" for one of no valid form."""
    return _or_nothing(f"{kind}:{value}") and value


def _fit(message: Message) -> None:
    for field, value in message.ListFields():
        name = field.name
        if field.is_repeated:
            _fit_repeated(field, value)
        elif field.message_type is not None:
            if _has_form(value):
                _fit(value)
            else:
                message.ClearField(name)
        else:
            fitting = _scalar(field, value)
            if fitting is None:
                message.ClearField(name)
            elif fitting != value:
                setattr(message, name, fitting)


def _or_nothing(address: str) -> str:
    try:
        return addresses.parse("", address)
    except InvalidField:
        changed("address")
        return ""


def _fit_repeated(field: FieldDescriptor, values: Any) -> None:
    most = _MOST.get(field.full_name, MAX_ENTRIES)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fit_map(field, values, most)
        return
    if len(values) > most:
        del values[most:]
        changed("list")
    if field.message_type is not None:
        for at in reversed(range(len(values))):
            if _has_form(values[at]):
                _fit(values[at])
            else:
                del values[at]
        return
    fitting = [kept for value in values if (kept := _scalar(field, value)) is not None]
    if fitting != list(values):
        del values[:]
        values.extend(fitting)


def _fit_map(field: FieldDescriptor, values: Any, most: int) -> None:
    key_field, value_field = field.message_type.fields  # type: ignore[union-attr]  # a map has one
    entries = list(values.items())
    if len(entries) > most:
        changed("list")
    fitting = {}
    for key, value in entries[:most]:
        if value_field.message_type is not None:
            _fit(value)
        elif (value := _scalar(value_field, value)) is not None:
            fitting[_scalar(key_field, key)] = value
    if value_field.message_type is None and fitting != dict(entries):
        values.clear()
        values.update(fitting)


def _has_form(value: Any) -> bool:
    """Whether a point in time or a length of time can be shown; true for any other message."""
    bounds = _TIMES.get(value.DESCRIPTOR.full_name)
    if bounds is None:
        return True
    least, most, signed = bounds
    fits = least <= value.seconds <= most and (-_NANOS if signed else -1) < value.nanos < _NANOS
    if fits and not (signed and value.seconds * value.nanos < 0):
        return True
    changed("time")
    return False


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value, made fit; None: it must go."""
    rule = _RULES.get(field.full_name)
    if rule is not None:
        return rule(value)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _cut(value, _MOST.get(field.full_name, _MAX_TEXT))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _whole(value, _MOST.get(field.full_name, _MAX_TEXT))
    if field.enum_type is not None:
        return value if value in field.enum_type.values_by_number else _out("enum")
    if field.cpp_type in _FLOATS:
        least, most = _RANGES.get(field.name, (-math.inf, math.inf))
        return value if math.isfinite(value) and least <= value <= most else _out("number")
    return value


def _out(kind: str) -> None:
    changed(kind)


def _cut(text: str, most: int) -> str:
    """At most so many bytes of UTF-8; what is cut ends with `…`."""
    if len(text) * 4 <= most or len(encoded := text.encode(errors="replace")) <= most:
        return text
    changed("text")
    return encoded[: most - len(_MARK.encode())].decode(errors="ignore") + _MARK


def _whole(value: Any, most: int) -> Any:
    """What is of no use when it is cut."""
    return value if len(value) <= most else _out("text")


def _file_name(name: str) -> str:
    plain = fit_text(name, 255)
    if "/" in plain or "\\" in plain:
        changed("text")
        plain = plain.replace("/", "_").replace("\\", "_")
    return plain


def _levels(waveform: bytes) -> bool:
    return len(waveform) == 64 and max(waveform) <= 100


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _json(text: str) -> Any:
    return _whole(text, 65_536)


def _mesh_id(_value: Any) -> None:
    """An id of the mesh in what somebody else sent is somebody else's."""


_mime = re.compile(r"[A-Za-z]+/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}(?:\s*;[ -~]{0,200})?").fullmatch
_MARK = "…"
_MAX_TEXT = 16 * 1024  # bytes of UTF-8 of any text that the table does not name
_AHEAD = 86_400_000_000
_NANOS = 1_000_000_000
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})
# Seconds, as proto JSON has them; nanos have the sign of the seconds in a Duration, and none in a Timestamp
_TIMES = {
    "google.protobuf.Timestamp": (-62_135_596_800, 253_402_300_799, False),
    "google.protobuf.Duration": (-315_576_000_000, 315_576_000_000, True),
}
_RANGES = {"latitude": (-90.0, 90.0), "longitude": (-180.0, 180.0)}
_V1 = "sessionmesh.v1."
_MOST = {
    _V1 + "TextContent.body": 65_536,
    _V1 + "UnknownContent.raw": 128 * 1024,
    _V1 + "ContactCard.vcard": 65_536,
    _V1 + "LinkPreview.thumbnail": 65_536,
    _V1 + "ContactCardsContent.cards": 100,
    _V1 + "AlbumContent.items": 30,
    _V1 + "Channel.picture_id": 128,
    _V1 + "Channel.invite_code": 256,
    _V1 + "ChannelReactionCount.emoji": 128,
}
"""Bytes of texts, and entries of lists, where they differ from what holds for all others."""


_RULES: dict[str, Callable[[Any], Any]] = {
    _V1 + "MessageRef.message_id": _mesh_id,
    _V1 + "MediaReference.media_id": _mesh_id,
    _V1 + "MediaReference.inline_data": _mesh_id,
    _V1 + "MediaReference.sha256": lambda value: value if len(value) == 32 else _out("text"),
    _V1 + "MediaReference.size_bytes": lambda value: value if value >= 0 else _out("number"),
    _V1 + "MediaReference.mime_type": lambda value: value if _mime(value) else _out("text"),
    _V1 + "MessageRef.network_message_id": fit_id,
    _V1 + "MessageRef.chat": fit_address,
    _V1 + "MessageRef.sender": fit_address,
    _V1 + "GroupInviteContent.group": fit_address,
    _V1 + "Person.address": fit_address,
    _V1 + "Person.phone": lambda value: fit_phone(value) or None,
    _V1 + "Person.user_id": lambda value: fit_user("user", value) or None,
    _V1 + "Person.hidden_id": lambda value: fit_user("hidden", value) or None,
    _V1 + "Person.username": lambda value: fit_user("username", value) or None,
    _V1 + "Person.display_name": lambda value: fit_text(value, MAX_NAME),
    _V1 + "Contact.full_name": lambda value: fit_text(value, MAX_NAME),
    _V1 + "Contact.first_name": lambda value: fit_text(value, MAX_NAME),
    _V1 + "Contact.push_name": lambda value: fit_text(value, MAX_NAME),
    _V1 + "Contact.verified_name": lambda value: fit_text(value, MAX_NAME),
    _V1 + "Contact.about": lambda value: fit_text(value, MAX_DETAIL),
    _V1 + "Contact.picture_id": lambda value: fit_text(value, MAX_ID),
    _V1 + "ProfilePicture.media_id": _mesh_id,
    _V1 + "ProfilePicture.picture_id": lambda value: fit_text(value, MAX_ID),
    _V1 + "DocumentContent.file_name": _file_name,
    _V1 + "VoiceNoteContent.waveform": lambda value: value if _levels(value) else _out("number"),
    _V1 + "FormReplyContent.response_json": _json,
    _V1 + "FlowParameters.data_json": _json,
    _V1 + "Restriction.detail": lambda value: fit_text(value, MAX_DETAIL),
}
"""Fields that are more than text."""
