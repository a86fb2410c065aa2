"""How hard files are compressed."""

from __future__ import annotations

import msgspec

from sessionmesh.v1 import media_pb2


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """How hard files are compressed."""

    side: int
    """Pixels of the longer side of pictures, at most."""
    quality: int
    """Of JPEG and WebP, 1 to 100."""
    bits_per_pixel: float
    """A JPEG with no more is compressed already."""
    film_short_side: int
    """Pixels of the shorter side of films, at most; the longer one has 16 / 9 of them."""
    film_crf: int
    """H.264's constant rate factor: more is smaller."""
    sound_rate: int
    """Bits a second of the sound of films."""
    voice_rate: int
    """Bits a second of voice notes."""


FOR_A_PURPOSE = Level(
    side=1600,
    quality=75,
    bits_per_pixel=1.2,
    film_short_side=720,
    film_crf=28,
    sound_rate=64_000,
    voice_rate=24_000,
)
"""Of what a purpose needs though nothing is to be compressed."""
_AGGRESSIVE_SIDE, _AGGRESSIVE_QUALITY = 1280, 60


def level(compression: media_pb2.Compression.ValueType, side: int, quality: int) -> Level | None:
    """The level; with BALANCED pictures have at most `side` pixels and JPEG `quality`. None for OFF."""
    if compression == media_pb2.COMPRESSION_OFF:
        return None
    if compression == media_pb2.COMPRESSION_AGGRESSIVE:
        return Level(
            side=min(side, _AGGRESSIVE_SIDE),
            quality=min(quality, _AGGRESSIVE_QUALITY),
            bits_per_pixel=0.8,
            film_short_side=480,
            film_crf=30,
            sound_rate=48_000,
            voice_rate=16_000,
        )
    return Level(
        side=side,
        quality=quality,
        bits_per_pixel=1.2,
        film_short_side=720,
        film_crf=28,
        sound_rate=64_000,
        voice_rate=24_000,
    )
