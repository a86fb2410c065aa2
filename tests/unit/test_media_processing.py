"""Which pictures are worth recompressing, and the levels of voice notes."""

from __future__ import annotations

from array import array

import pytest

from mesh_media.processing.levels import level
from mesh_media.processing.processor import costs_of
from mesh_media.processing.worker.picture_files import Header
from mesh_media.processing.worker.pictures import reason_to_keep
from mesh_media.processing.worker.sounds import MOST_VOICE_SECONDS, waveform
from sessionmesh.v1 import media_pb2

TIMES_AS_FAST = 30
"""As it is played, and slower than a machine at work encodes a sound."""
FINE, COARSE = 700, 1900
"""Sums of the quantisation tables of JPEGs of quality 90 and 74."""


@pytest.mark.parametrize(
    ("mime_type", "picture", "size", "reason"),
    [
        ("image/jpeg", Header(4000, 3000), 3_000_000, "UNSPECIFIED"),
        ("image/jpeg", Header(1600, 1200, coarseness=FINE), 900_000, "UNSPECIFIED"),  # 3.75 bits a pixel
        ("image/jpeg", Header(1600, 1200, coarseness=FINE), 200_000, "COMPRESSED_ALREADY"),  # 0.83
        ("image/jpeg", Header(1600, 1200, coarseness=COARSE), 900_000, "COMPRESSED_ALREADY"),
        ("image/png", Header(1000, 1000), 3_000_000, "COMPRESSED_ALREADY"),  # lossless, and small enough
        ("image/png", Header(4000, 1000), 900_000, "UNSPECIFIED"),
        ("image/webp", Header(4000, 3000), 3_000_000, "UNSPECIFIED"),
        ("image/webp", Header(4000, 3000, animated=True), 3_000_000, "TYPE"),
        ("image/gif", Header(4000, 3000), 3_000_000, "TYPE"),
        ("image/heic", Header(1000, 1000), 100_000, "UNSPECIFIED"),  # which networks do not take
    ],
)
def test_only_what_gains_is_recompressed(mime_type: str, picture: Header, size: int, reason: str) -> None:
    balanced = level(media_pb2.COMPRESSION_BALANCED, side=1600, quality=75)
    assert balanced is not None
    found = reason_to_keep(mime_type, picture, size, balanced)
    assert media_pb2.UnprocessedReason.Name(found) == f"UNPROCESSED_REASON_{reason}"


def test_a_waveform_has_64_levels_of_which_the_loudest_is_100() -> None:
    rising = array("h", [at * (-1) ** at for at in range(6400)]).tobytes()
    levels = waveform(rising)
    assert len(levels) == 64
    assert (levels[0], levels[31], levels[63]) == (1, 49, 100)


def test_silence_and_a_sound_of_a_few_samples_have_a_waveform() -> None:
    assert waveform(b"") == bytes(64)
    assert waveform(bytes(10_000)) == bytes(64)
    assert max(waveform(b"\1\0\2\0")) == 100


def test_the_longest_voice_note_has_the_time_that_it_takes() -> None:
    costs = costs_of("audio/mpeg", media_pb2.MEDIA_PURPOSE_VOICE)
    assert costs.cpu_seconds >= MOST_VOICE_SECONDS / TIMES_AS_FAST
