"""Pictures: how large they are, and how to store them smaller.

libvips reads files from strangers here: only the loaders that are needed may run, the size in the header is
checked before a pixel is decoded, and a truncated file is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyvips

from mesh_core.errors import InvalidField

RECOMPRESSED_BITS_PER_PIXEL = 1.2
"""A JPEG of fewer bits was compressed for phones before: doing it again costs quality and gains nothing."""

DECODED = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
"""Types whose pixels may be looked at; others are stored as they came."""

RECOMPRESSED = frozenset({"image/jpeg", "image/png"})
"""Types that are stored smaller. Animations and formats that are small already stay as they are."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The size of a picture as it is shown, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Recompressed:
    """A smaller file with the same picture."""

    data: bytes
    picture: Picture


def forbid_other_loaders() -> None:
    """Once per process, before the first picture."""
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in ("Jpeg", "Png", "Webp", "Nsgif"):
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    pyvips.cache_set_max(0)  # no picture comes twice


def inspect(file: Path, max_pixels: int) -> Picture:
    """The size by the header alone. Raises `InvalidField` for a broken header or too many pixels."""
    try:
        image = pyvips.Image.new_from_file(str(file), access="sequential")
        turned = image.get_typeof("orientation") != 0 and image.get("orientation") >= 5
    except pyvips.Error:
        raise InvalidField("chunk", "the picture's header is broken") from None
    if image.width * image.height > max_pixels:
        raise InvalidField(
            "chunk", f"the picture has {image.width}x{image.height} pixels; at most {max_pixels} are taken"
        )
    return Picture(image.height, image.width) if turned else Picture(image.width, image.height)


def worth_recompressing(mime_type: str, picture: Picture, size: int, side: int) -> bool:
    """Whether storing the picture anew can gain anything."""
    if mime_type not in RECOMPRESSED:
        return False
    if max(picture.width, picture.height) > side:
        return True
    bits_per_pixel = size * 8 / (picture.width * picture.height)
    return mime_type == "image/jpeg" and bits_per_pixel > RECOMPRESSED_BITS_PER_PIXEL


def recompress(file: Path, mime_type: str, side: int, quality: int) -> Recompressed:
    """The picture turned upright, at most `side` pixels long, without metadata; CPU-bound, for a thread.

    Raises `InvalidField` when the pixels cannot be decoded.
    """
    try:
        image = pyvips.Image.thumbnail(str(file), side, height=side, size="down", fail_on="truncated")
        if mime_type == "image/png":
            data = image.pngsave_buffer(compression=9, keep="icc")
        else:
            data = image.jpegsave_buffer(
                Q=quality,
                trellis_quant=True,
                overshoot_deringing=True,
                optimize_scans=True,
                interlace=True,
                optimize_coding=True,
                keep="icc",
            )
    except pyvips.Error:
        raise InvalidField("chunk", "the picture is broken or cut off") from None
    return Recompressed(data, Picture(image.width, image.height))
