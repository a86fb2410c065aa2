"""What the endings of files' names say: the same on every machine, whatever types its system knows."""

from __future__ import annotations

import mimetypes

_ENDINGS = {
    "application/epub+zip": ".epub",
    "application/gzip": ".gz",
    "application/ogg": ".ogg",
    "application/rtf": ".rtf",
    "application/vnd.android.package-archive": ".apk",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.rar": ".rar",
    "application/x-7z-compressed": ".7z",
    "application/xml": ".xml",
    "audio/aac": ".aac",
    "audio/amr": ".amr",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/webm": ".weba",
    "image/avif": ".avif",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/webp": ".webp",
    "text/calendar": ".ics",
    "text/markdown": ".md",
    "text/vcard": ".vcf",
    "video/3gpp": ".3gp",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
}
"""Where Python's own table says nothing, or what few programs know (`.oga`)."""
_TYPES = mimetypes.MimeTypes()  # without the system's tables
for _mime_type, _ending in _ENDINGS.items():
    _TYPES.add_type(_mime_type, _ending)


def type_of_name(name: str) -> str:
    """The MIME type that a name's ending stands for; "" where it stands for none, or for something packed."""
    mime_type, packing = _TYPES.guess_type(_as_path(name))
    return "" if mime_type is None or packing is not None else mime_type


def ends_as_names_do(name: str) -> bool:
    """Whether a name has the ending of a file."""
    return _TYPES.guess_type(_as_path(name)) != (None, None)


def ending_of(mime_type: str) -> str:
    """The ending of such a file, with its dot; "" where there is none."""
    return _ENDINGS.get(mime_type) or _TYPES.guess_extension(mime_type) or ""


def _as_path(name: str) -> str:
    """What is not read as a URL, as `data:,x.csv` would be."""
    return f"./{name}"
