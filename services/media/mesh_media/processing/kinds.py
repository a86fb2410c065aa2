"""Which types are processed, and how they are opened."""

from __future__ import annotations

PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/heic", "image/heif"})

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
