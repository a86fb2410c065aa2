"""Which pictures are worth recompressing."""

from __future__ import annotations

import pytest

from mesh_media.processing.images import ImageSize, reason_to_keep
from sessionmesh.v1 import media_pb2


@pytest.mark.parametrize(
    ("mime_type", "picture", "size", "reason"),
    [
        (
            "image/jpeg",
            ImageSize(4000, 3000),
            3_000_000,
            media_pb2.UNPROCESSED_REASON_UNSPECIFIED,
        ),  # larger than a phone shows
        (
            "image/jpeg",
            ImageSize(1600, 1200),
            200_000,
            media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY,
        ),  # 0.83 bits a pixel: compressed before
        (
            "image/jpeg",
            ImageSize(1600, 1200),
            900_000,
            media_pb2.UNPROCESSED_REASON_UNSPECIFIED,
        ),  # 3.75 bits a pixel
        (
            "image/png",
            ImageSize(1000, 1000),
            3_000_000,
            media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY,
        ),  # lossless, and small enough
        ("image/png", ImageSize(4000, 1000), 900_000, media_pb2.UNPROCESSED_REASON_UNSPECIFIED),
        ("image/webp", ImageSize(4000, 3000), 3_000_000, media_pb2.UNPROCESSED_REASON_TYPE),
        ("image/gif", ImageSize(4000, 3000), 3_000_000, media_pb2.UNPROCESSED_REASON_TYPE),
    ],
)
def test_only_what_gains_is_recompressed(mime_type: str, picture: ImageSize, size: int, reason: int) -> None:
    assert reason_to_keep(mime_type, picture, size, side=1600) == reason
