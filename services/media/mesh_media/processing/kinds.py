"""Which types are processed, and how they are opened."""

from __future__ import annotations

from sessionmesh.v1 import media_pb2

PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/heic", "image/heif"})

OTHER_PICTURES = frozenset({"image/bmp", "image/tiff", "image/avif", "image/apng"})
"""Types of pictures that are left alone unless a purpose needs another one."""

SHOWN_PICTURES = frozenset({"image/jpeg", "image/png"})
"""Types that networks show as pictures."""

FILMS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/3gpp": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "video/mpeg": "mpeg",
}
"""Types of films, and the demuxer that alone may read them."""

SOUNDS = {
    "audio/ogg": "ogg",
    "audio/opus": "ogg",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/mp4": "mov",
    "audio/webm": "matroska",
    "audio/amr": "amr",
    "audio/wav": "wav",
    "audio/flac": "flac",
}
"""Types of sounds, and the demuxer that alone may read them."""

ANIMATIONS = {"image/gif": "gif"}
"""Types of pictures that a film may be made of, and their demuxers."""

PURPOSES = (
    media_pb2.MEDIA_PURPOSE_IMAGE,
    media_pb2.MEDIA_PURPOSE_VIDEO,
    media_pb2.MEDIA_PURPOSE_STICKER,
    media_pb2.MEDIA_PURPOSE_VOICE,
    media_pb2.MEDIA_PURPOSE_VIDEO_NOTE,
)
"""Purposes that a file must be made ready for."""


def is_processed(mime_type: str, purpose: media_pb2.MediaPurpose.ValueType) -> bool:
    """Whether there is anything to do for a file; what it is not is kept as it came."""
    if purpose == media_pb2.MEDIA_PURPOSE_DOCUMENT:
        return False
    if mime_type in OTHER_PICTURES:
        return purpose in (media_pb2.MEDIA_PURPOSE_IMAGE, media_pb2.MEDIA_PURPOSE_STICKER)
    return mime_type in PICTURES or mime_type in FILMS or mime_type in SOUNDS
