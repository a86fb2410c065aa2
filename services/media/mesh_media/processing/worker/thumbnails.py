"""The small pictures of a file."""

from __future__ import annotations

import pyvips

from mesh_media.processing.jobs import Small

THUMBNAIL_SIDE, PREVIEW_SIDE = 320, 96
MOST_PREVIEW = 4096
_WHITE = 255


def small_pictures(image: pyvips.Image) -> tuple[Small, bytes]:
    """A JPEG of at most 320 pixels, and one of at most 96 that messages carry, in at most 4 KiB."""
    small = image.thumbnail_image(THUMBNAIL_SIDE, height=THUMBNAIL_SIDE, size="down")
    if small.hasalpha():
        small = small.flatten(background=_WHITE)
    small = small.copy_memory()
    data = small.jpegsave_buffer(Q=70, optimize_coding=True, keep="icc")
    return Small(data, small.width, small.height), _preview(small)


def _preview(small: pyvips.Image) -> bytes:
    tiny = small.thumbnail_image(PREVIEW_SIDE, height=PREVIEW_SIDE, size="down").copy_memory()
    data = b""
    for quality in (60, 40, 20, 5):
        data = tiny.jpegsave_buffer(Q=quality, optimize_coding=True, keep="none")
        if len(data) <= MOST_PREVIEW:
            break
    return data
