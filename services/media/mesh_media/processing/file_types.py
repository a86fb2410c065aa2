"""What a file is, judged by its first bytes, and whether the announced MIME type fits."""

from __future__ import annotations

import re
from collections.abc import Callable

import filetype

from mesh_core.errors import InvalidField

SNIFFED_BYTES = 8192
UNKNOWN = "application/octet-stream"


def sniff(head: bytes) -> str:
    """The MIME type of a file that begins with `head`; "" when it is not recognised."""
    for prefix, mime_type in _SIGNATURES:
        if head.startswith(prefix):
            return mime_type
    kind = filetype.guess(head)
    return "" if kind is None else _ALIASES.get(kind.mime, kind.mime)


def agreed_type(declared: str, head: bytes) -> str:
    """The type to store: the one recognised in the bytes, else the announced one.

    Raises `InvalidField` when the bytes are of another type than announced, or when an image, video or audio
    file was announced and the bytes are not recognised.
    """
    announced = normalised(declared)
    found = sniff(head)
    if not announced:
        return found or UNKNOWN
    if not found:
        if announced.partition("/")[0] in _MUST_BE_RECOGNISED:
            raise InvalidField(
                "header.options.mime_type", f"the file is not {announced}, nor anything else known"
            )
        return announced
    if announced in (found, UNKNOWN):
        return found
    if found in _CONTAINERS and _CONTAINERS[found](announced):
        return announced
    raise InvalidField("header.options.mime_type", f"says {announced}, but the file is {found}")


def hinted_type(declared: str, head: bytes) -> str:
    """The type of a file of the network: the one recognised in the bytes, unless the announced one is more
    exact; nothing is refused.
    """
    try:
        return agreed_type(declared, head)
    except InvalidField:
        return sniff(head) or UNKNOWN


def normalised(declared: str) -> str:
    """The declared type without parameters, in lower case, by its usual name."""
    mime_type = declared.partition(";")[0].strip().lower()
    if mime_type and not re.fullmatch(r"[a-z]+/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", mime_type):
        raise InvalidField("header.options.mime_type", "must be a MIME type such as image/jpeg")
    return _ALIASES.get(mime_type, mime_type)


_MUST_BE_RECOGNISED = frozenset({"image", "video", "audio"})
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "video/x-m4v": "video/mp4",
    "application/x-zip-compressed": "application/zip",
}
# Types that filetype does not know, or reports less exactly.
_SIGNATURES = (
    (b"OggS", "audio/ogg"),
    (b"%PDF-", "application/pdf"),
    (b"#!AMR", "audio/amr"),
    (b"BEGIN:VCARD", "text/vcard"),
)
# Containers, whose first bytes do not say what is inside: any of these announced types is believed.
_CONTAINERS: dict[str, Callable[[str], bool]] = {
    "audio/ogg": lambda announced: announced in {"video/ogg", "application/ogg", "audio/opus"},
    "video/mp4": lambda announced: announced in {"audio/mp4", "audio/aac", "video/3gpp", "video/quicktime"},
    "audio/mp4": lambda announced: announced in {"video/mp4", "audio/aac"},
    "video/webm": lambda announced: announced in {"audio/webm", "video/x-matroska"},
    "video/x-matroska": lambda announced: announced in {"video/webm", "audio/webm"},
    "application/zip": lambda announced: announced.startswith("application/"),
}
