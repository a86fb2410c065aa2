"""How hard files are compressed."""

from __future__ import annotations

from mesh_media.processing.jobs import Level
from sessionmesh.v1 import media_pb2

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
