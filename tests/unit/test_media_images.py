"""Which pictures are worth recompressing."""

from __future__ import annotations

import pytest

from mesh_media.processing.images import ImageSize, worth_recompressing


@pytest.mark.parametrize(
    ("mime_type", "picture", "size", "worth"),
    [
        ("image/jpeg", ImageSize(4000, 3000), 3_000_000, True),  # larger than a phone shows
        ("image/jpeg", ImageSize(1600, 1200), 200_000, False),  # 0.83 bits a pixel: compressed before
        ("image/jpeg", ImageSize(1600, 1200), 900_000, True),  # 3.75 bits a pixel
        ("image/png", ImageSize(1000, 1000), 3_000_000, False),  # lossless, and small enough
        ("image/png", ImageSize(4000, 1000), 900_000, True),
        ("image/webp", ImageSize(4000, 3000), 3_000_000, False),
        ("image/gif", ImageSize(4000, 3000), 3_000_000, False),
    ],
)
def test_only_what_gains_is_recompressed(mime_type: str, picture: ImageSize, size: int, worth: bool) -> None:
    assert worth_recompressing(mime_type, picture, size, side=1600) is worth
