"""What a job answers with: the file that it has made, in its folder, and the small pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyvips

from mesh_media.processing.jobs import Small

OUTPUT = "output"
THUMBNAIL_SIDE, PREVIEW_SIDE = 320, 96
MOST_PREVIEW = 4096
WHITE = 255


def write_output(data: bytes) -> tuple[str, int, bytes]:
    """Store `data`; the name of the file, its size and sha256."""
    Path(OUTPUT).write_bytes(data)
    return OUTPUT, len(data), hashlib.sha256(data).digest()


def written_output(name: str = OUTPUT) -> tuple[str, int, bytes]:
    """The name of a file that is there, its size and sha256."""
    with Path(name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return name, file.tell(), digest


def small_pictures(image: pyvips.Image) -> tuple[Small, bytes]:
    """A JPEG of at most 320 pixels, and one of at most 96 that messages carry, in at most 4 KiB."""
    small = image.thumbnail_image(THUMBNAIL_SIDE, height=THUMBNAIL_SIDE, size="down")
    if small.hasalpha():
        small = small.flatten(background=WHITE)
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
