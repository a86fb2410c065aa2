"""Takes out of pictures what they say of their camera and place, and leaves every pixel as it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def without_metadata(picture: bytes, mime_type: str) -> bytes:
    """The picture with nothing but what it is shown with: its colour profile and how it is turned. What is of
    another type, or not understood, comes back as it is.
    """
    strip = {"image/jpeg": _bare_jpeg, "image/png": _bare_png, "image/webp": _bare_webp}.get(mime_type)
    if strip is None:
        return picture
    try:
        return strip(picture)
    except (struct.error, IndexError, ValueError):
        return picture


def _bare_jpeg(picture: bytes) -> bytes:
    """Without what follows its end, too, such as a second picture or a film."""
    parts, at = [picture[:2]], 2
    while True:
        while picture[at + 1] == 0xFF:  # padding
            at += 1
        if picture[at] != 0xFF:
            raise ValueError("no marker")
        marker = picture[at + 1]
        if marker == _END:
            parts.append(picture[at : at + 2])
            return b"".join(parts)
        (length,) = struct.unpack_from(">H", picture, at + 2)
        end = at + 2 + length
        body = picture[at + 4 : end]
        if marker == _SCAN:
            end = _end_of_scan(picture, end)
        if (shown := _shown_of(marker, body)) is None:
            parts.append(picture[at:end])
        elif shown:
            parts.append(struct.pack(">BBH", 0xFF, marker, len(shown) + 2) + shown)
        at = end


def _shown_of(marker: int, body: bytes) -> bytes | None:
    """What a segment has that a picture is shown with; None: all of it."""
    if marker == _EXIF and body.startswith(b"Exif\0\0"):
        try:
            turned = _orientation(body[6:])
        except struct.error:
            turned = 1
        return _only_turned(turned) if turned > 1 else b""
    if marker == _PROFILE:
        return None if body.startswith(b"ICC_PROFILE\0") else b""
    if marker in (_JFIF, _ADOBE):
        return None
    return b"" if _JFIF < marker <= _LAST_APPLICATION or marker == _COMMENT else None


def _end_of_scan(picture: bytes, at: int) -> int:
    while True:
        at = picture.index(b"\xff", at)
        if picture[at + 1] not in _WITHIN_SCANS:
            return at
        at += 2


def _orientation(tiff: bytes) -> int:
    order = "<" if tiff.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for number in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * number)
        if tag == _ORIENTATION and kind == _SHORT:
            return int(value)
    return 1


def _only_turned(orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", _ORIENTATION, _SHORT, 1, orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


def _bare_png(picture: bytes) -> bytes:
    parts, at = [picture[:8]], 8
    while True:
        (length,) = struct.unpack_from(">I", picture, at)
        kind, end = picture[at + 4 : at + 8], at + 12 + length
        if end > len(picture):
            raise ValueError("cut off")
        if kind not in _SAID_BY_PNG:
            parts.append(picture[at:end])
        if kind == b"IEND":
            return b"".join(parts)
        at = end


def _bare_webp(picture: bytes) -> bytes:
    parts = [bytes(chunk) for kind, chunk in _webp_chunks(picture) if kind not in _SAID_BY_WEBP]
    if parts and parts[0].startswith(b"VP8X"):
        flags = parts[0][8] & ~_HAS_EXIF_OR_XMP
        parts[0] = parts[0][:8] + bytes([flags]) + parts[0][9:]
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _webp_chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, end = 12, 8 + struct.unpack_from("<I", picture, 4)[0]
    while at < end:
        (length,) = struct.unpack_from("<I", picture, at + 4)
        after = at + 8 + length + length % 2
        if after > len(picture):
            raise ValueError("cut off")
        yield picture[at : at + 4], picture[at:after]
        at = after


_END, _SCAN, _COMMENT = 0xD9, 0xDA, 0xFE
_JFIF, _EXIF, _PROFILE, _ADOBE, _LAST_APPLICATION = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_WITHIN_SCANS = frozenset({0x00, *range(0xD0, 0xD8)})
_ORIENTATION, _SHORT = 0x0112, 3
_SAID_BY_PNG = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME"})
_SAID_BY_WEBP = frozenset({b"EXIF", b"XMP "})
_HAS_EXIF_OR_XMP = 0x0C
