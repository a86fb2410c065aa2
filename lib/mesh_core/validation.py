"""Checks of request fields that all services make alike. They raise `InvalidField` with the field's path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.errors import Aborted, InvalidField

MAX_REQUEST_ID = 64
MAX_NAME = 128
MAX_LABEL_KEY = 63
MAX_LABEL_VALUE = 255
MAX_BATCH = 1000
"""Most messages of one BatchSendMessages, and of one frame of SendMessages."""


def required_text(field: str, value: str, max_length: int = MAX_NAME) -> str:
    """`value`, which must not be empty; lengths are in characters."""
    if not value:
        raise InvalidField(field, "is required")
    return text(field, value, max_length)


def text(field: str, value: str, max_length: int = MAX_NAME) -> str:
    """`value`, which may be empty. NUL is refused: Postgres cannot store it."""
    if len(value) > max_length:
        raise InvalidField(field, f"must be at most {max_length} characters long")
    if "\0" in value:
        raise InvalidField(field, "must not contain a NUL character")
    return value


def stored_text(value: str, most: int) -> str:
    """What somebody else wrote as a column of text takes it: without NUL and lone surrogates, which become
    U+FFFD, and at most `most` characters; what is cut ends with `…`.
    """
    if len(value) > most:
        value = value[: most - 1] + "…"
    if not value.isascii():
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value.replace("\0", "\ufffd")


def visible_text(field: str, value: str, max_length: int = MAX_NAME) -> str:
    """`value`, which may be empty and is shown to people beside others: nothing in it is invisible, controls
    a terminal or turns the text around it. Joiners and variation selectors may stand where scripts and emoji
    need them: after, and joiners between, characters that are not ASCII.
    """
    text(field, value, max_length)
    if value.isascii() and value.isprintable():
        return value
    if found := _INVISIBLE.search(value):
        raise InvalidField(
            field,
            f"must not contain control, invisible or bidirectional characters; has U+{ord(found[0]):04X}",
        )
    return value


def without_invisible(value: str) -> str:
    """`value` without what `visible_text` refuses."""
    return _INVISIBLE.sub("", value)


def request_id(value: str, field: str = "request_id") -> str:
    """A caller's key that makes a retry harmless: required, up to 64 characters."""
    return required_text(field, value, MAX_REQUEST_ID)


def labels(
    field: str,
    values: Mapping[str, str],
    most: int = 32,
    *,
    max_key: int = MAX_LABEL_KEY,
    max_value: int = MAX_LABEL_VALUE,
) -> dict[str, str]:
    """`values` as a dict; at most `most` of them, no empty key, nothing invisible."""
    if len(values) > most:
        raise InvalidField(field, f"must have at most {most} entries")
    for key, value in values.items():
        if not key or len(key) > max_key:
            raise InvalidField(field, f"keys must have 1 to {max_key} characters")
        visible_text(field, key, max_key)
        visible_text(f"{field}[{key}]", value, max_value)
    return dict(values)


def phone(field: str, value: str) -> str:
    """A number in E.164; required."""
    if not _E164(value):
        raise InvalidField(field, "must be a phone number in E.164, such as +4915112345678")
    return value


def at_least(field: str, value: int, least: int) -> int:
    """A whole number with a lower bound."""
    if value < least:
        raise InvalidField(field, f"must be at least {least}")
    return value


def choice(field: str, value: int, allowed: Iterable[int], describe: str) -> int:
    """An enum's number among `allowed`, which `describe` names; proto3 lets unknown numbers through."""
    if value not in allowed:
        raise InvalidField(field, f"must be one of {describe}")
    return value


def duration(field: str, value: Duration, *, least: timedelta, most: timedelta) -> timedelta:
    """A duration within bounds, both included."""
    # Compared as whole numbers first: a duration near the proto's own limits does not fit into a timedelta.
    seconds = value.seconds + value.nanos / 1e9
    if not least.total_seconds() <= seconds <= most.total_seconds():
        raise InvalidField(field, f"must be between {_seconds(least)} and {_seconds(most)}")
    return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def timestamp(field: str, value: Timestamp) -> datetime:
    """A point in time, UTC, cut to microseconds."""
    if not _FIRST_SECOND <= value.seconds <= _LAST_SECOND or not 0 <= value.nanos < 1_000_000_000:
        raise InvalidField(field, "must be a time between the years 1 and 9999")
    return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def to_timestamp(value: datetime) -> Timestamp:
    """The proto form of a time as asyncpg returns `timestamptz`: with a zone, or infinite. Infinite ones
    become the first and the last time that there is.
    """
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def to_duration(value: timedelta) -> Duration:
    """The proto form of a duration."""
    message = Duration()
    message.FromTimedelta(value)
    return message


def field_mask(mask: FieldMask, allowed: Iterable[str], field: str = "update_mask") -> frozenset[str]:
    """The mask's paths, all among `allowed`; an empty mask is refused, `*` means all of them."""
    known = frozenset(allowed)
    if not mask.paths:
        raise InvalidField(field, "is required")
    if list(mask.paths) == ["*"]:
        return known
    for path in mask.paths:
        if path not in known:
            raise InvalidField(field, f"{path[:64]!r} is not one of {', '.join(sorted(known))}")
    return frozenset(mask.paths)


def etag(version: int) -> str:
    """The etag of a row with this version number (AIP-154)."""
    return f"v{version}"


def etag_of(resource: Message) -> str:
    """The etag of what has no version: of its content, but for its field `etag`."""
    bare = type(resource)()
    bare.CopyFrom(resource)
    bare.ClearField("etag")
    return blake2b(bare.SerializeToString(deterministic=True), digest_size=12).hexdigest()


def check_etag(given: str, present: int | str | None) -> None:
    """Raise `Aborted` ETAG_MISMATCH unless `given` is empty or the present etag, which may be named by the
    version that it is of; None: there is nothing at present.
    """
    if given and given != (etag(present) if isinstance(present, int) else present):
        raise Aborted("the etag is not the present one: read the resource again", "ETAG_MISMATCH")


def _seconds(value: timedelta) -> str:
    return f"{value.total_seconds():g} s"


# Controls, line and paragraph separators, what Unicode lets fonts ignore, blanks that are letters or symbols,
# and what sets a direction. The last two parts are joiners and selectors out of their places.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
    "|(?<![^\x00-\x7f\u200c\u200d\ufe00-\ufe0f])[\ufe00-\ufe0f]"
    "|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])"
)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_LAST_SECOND = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
