"""What a file is, judged by its first bytes, and whether the announced MIME type can be true."""

from __future__ import annotations

import re

import filetype

from mesh_media.processing.name_endings import type_of_name
from mesh_media.processing.processed import Refused
from sessionmesh.v1 import media_pb2

SNIFFED_BYTES = 8192
UNKNOWN = "application/octet-stream"


def sniff(head: bytes) -> str:
    """The MIME type of a file that begins with `head`; "" when it is not recognised."""
    found = _signature(head)
    # Words may begin with the two or three letters that some signatures are.
    return "" if found and found not in _BEGIN_AS_TEXT and _is_text(head) else found


def agreed_type(declared: str, head: bytes) -> str:
    """The type to store: the one recognised in the bytes; the announced one where it is more exact, or where
    they are not recognised.

    Raises `Refused`, an `InvalidField`, for an announced type that is certainly not that of the bytes.
    """
    announced, found = normalised(declared), sniff(head)
    if not announced or announced in (found, UNKNOWN):
        return found or UNKNOWN
    if not found:
        if announced in _CERTAIN or (
            _is_shown(announced) and announced not in _SHOWN_TEXTS and _is_text(head)
        ):
            raise _mismatch(f"the file is not {announced}, nor anything else known")
        return announced
    if announced in _MORE_EXACT.get(found, ()):
        return announced
    if announced in _CERTAIN or announced.startswith("text/"):
        raise _mismatch(f"says {announced}, but the file is {found}")
    if found in _ARCHIVES and not _is_shown(announced):
        return announced
    return found


def hinted_type(declared: str, head: bytes) -> str:
    """The type of a file whose announced type is a hint: the one recognised in the bytes, unless the hint is
    more exact; nothing is refused.
    """
    try:
        return agreed_type(declared, head)
    except Refused:
        return sniff(head) or UNKNOWN


def named_type(name: str, head: bytes) -> str:
    """What a file's name says of its type where its bytes do not: of text, data and documents. "" where it
    says nothing, or cannot be right.
    """
    named = type_of_name(name)
    is_text = named.startswith("text/") or named == "image/svg+xml"
    if not named or (_controls(head) if is_text else _is_shown(named)):
        return ""
    return named if hinted_type(named, head) == named else ""


def normalised(declared: str) -> str:
    """The declared type without parameters, in lower case, by its usual name. Raises `InvalidField`."""
    mime_type = declared.partition(";")[0].strip().lower()
    if mime_type and not _is_type(mime_type):
        raise Refused(_FIELD, "must be a MIME type such as image/jpeg", media_pb2.MEDIA_FAILURE_TYPE_MISMATCH)
    return _ALIASES.get(mime_type, mime_type)


def _signature(head: bytes) -> str:
    for prefix, mime_type in _SIGNATURES:
        if head.startswith(prefix):
            return mime_type
    if head[4:8] in _QUICKTIME_ATOMS:
        return "video/quicktime"
    if head[:1] == head[188:189] == head[376:377] == b"G":  # packets of 188 bytes
        return "video/mp2t"
    kind = filetype.guess(head)
    return "" if kind is None else _ALIASES.get(kind.mime, kind.mime)


def _is_text(head: bytes) -> bool:
    """Whether it can be read: no control characters, and in UTF-8, of which the last one may be cut off."""
    if not head or _controls(head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.end == len(head) and error.reason == "unexpected end of data"
    return True


def _is_shown(mime_type: str) -> bool:
    return mime_type.startswith(("image/", "video/", "audio/"))


def _mismatch(description: str) -> Refused:
    return Refused(_FIELD, description, media_pb2.MEDIA_FAILURE_TYPE_MISMATCH)


_FIELD = "header.options.mime_type"
_is_type = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}").fullmatch
_controls = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]").search
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/vnd.microsoft.icon": "image/x-icon",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/aiff": "audio/x-aiff",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/x-aac": "audio/aac",
    "audio/vnd.dlna.adts": "audio/aac",
    "video/x-m4v": "video/mp4",
    "video/avi": "video/x-msvideo",
    "video/msvideo": "video/x-msvideo",
    "binary/octet-stream": UNKNOWN,  # what S3 says where nobody told it
    "application/x-download": UNKNOWN,
    "application/force-download": UNKNOWN,
    "application/x-zip-compressed": "application/zip",
    "application/x-pdf": "application/pdf",
    "text/rtf": "application/rtf",
    "text/x-vcard": "text/vcard",
}
# Types that filetype does not know, or reports less exactly.
_SIGNATURES = (
    (b"OggS", "audio/ogg"),
    (b"%PDF-", "application/pdf"),
    (b"#!AMR", "audio/amr"),
    (b"BEGIN:VCARD", "text/vcard"),
)
_QUICKTIME_ATOMS = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_BEGIN_AS_TEXT = frozenset(
    {"application/pdf", "application/rtf", "application/postscript", "audio/amr", "text/vcard"}
)
_SHOWN_TEXTS = frozenset(
    {
        "audio/mpegurl",
        "audio/x-mpegurl",
        "audio/x-scpls",
        "image/svg+xml",
        "image/vnd.dxf",
        "image/x-eps",
        "image/x-portable-anymap",
        "image/x-portable-bitmap",
        "image/x-portable-graymap",
        "image/x-portable-pixmap",
        "image/x-xbitmap",
        "image/x-xpixmap",
    }
)
"""Pictures and lists of sounds that are written as text."""
_CERTAIN = frozenset(
    {
        "application/pdf",
        "audio/amr",
        "audio/flac",
        "audio/ogg",
        "audio/wav",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/mp4",
        "video/webm",
        "video/x-matroska",
        "video/x-msvideo",
    }
)
"""Types whose files all begin with a signature that is known here."""
_MP4 = frozenset(
    {
        "application/mp4",
        "audio/3gpp",
        "audio/3gpp2",
        "audio/aac",
        "audio/mp4",
        "video/3gpp",
        "video/3gpp2",
        "video/mp4",
        "video/quicktime",
    }
)
_MATROSKA = frozenset({"audio/webm", "audio/x-matroska", "video/webm", "video/x-matroska"})
_OFFICE = frozenset(
    {
        "application/msword",
        "application/vnd.ms-excel",
        "application/vnd.ms-outlook",
        "application/vnd.ms-powerpoint",
        "application/vnd.ms-project",
        "application/vnd.visio",
        "application/x-msi",
    }
)
_HEIF = frozenset({"image/avif", "image/heic", "image/heic-sequence", "image/heif", "image/heif-sequence"})
# Formats of several types, whose first bytes do not say which.
_MORE_EXACT: dict[str, frozenset[str]] = {
    "audio/ogg": frozenset({"application/ogg", "audio/opus", "audio/speex", "video/ogg"}),
    "audio/amr": frozenset({"audio/amr-wb", "audio/3gpp"}),
    "audio/midi": frozenset({"audio/x-midi", "audio/mid"}),
    "audio/mpeg": frozenset({"audio/mpeg3", "audio/x-mpeg-3", "audio/mpa"}),
    "image/jpx": frozenset({"image/jp2", "image/jpm", "image/jpx", "image/x-jp2"}),
    "image/png": frozenset({"image/apng"}),
    "image/apng": frozenset({"image/apng"}),
    "image/tiff": frozenset(
        {"image/x-adobe-dng", "image/x-canon-cr2", "image/x-nikon-nef", "image/x-sony-arw"}
    ),
    "text/vcard": frozenset({"text/directory", "text/plain", "text/x-vcard"}),
    "application/postscript": frozenset({"application/illustrator", "image/x-eps"}),
    "application/pdf": frozenset({"application/illustrator", "application/vnd.adobe.illustrator"}),
    "video/x-ms-wmv": frozenset({"audio/x-ms-wma", "video/x-ms-asf", "video/x-ms-wmv"}),
    **dict.fromkeys(("video/mp4", "audio/mp4", "video/3gpp", "video/quicktime"), _MP4),
    **dict.fromkeys(("video/webm", "video/x-matroska"), _MATROSKA),
    **dict.fromkeys(("image/heic", "image/avif"), _HEIF),
    **dict.fromkeys(
        ("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"), _OFFICE
    ),
}
_ARCHIVES = frozenset(
    {
        "application/gzip",
        "application/octet-stream",
        "application/x-sqlite3",
        "application/x-tar",
        "application/x-unix-archive",
        "application/zip",
    }
)
"""What other formats are made of: an announced type that is none of what is shown is believed."""
