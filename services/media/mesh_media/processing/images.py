"""Measures images and makes them smaller.

The files come from strangers, so only the libvips loaders that are needed may run, the size in the header is
checked before a pixel is decoded, and a truncated file is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyvips

from mesh_core.errors import InvalidField
from sessionmesh.v1 import media_pb2

MIN_BITS_PER_PIXEL = 1.2
"""A JPEG with fewer was compressed for phones already: doing so again costs quality and saves nothing."""

DECODED = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
"""Types that are opened with libvips; others are stored as they came."""

RECOMPRESSED = frozenset({"image/jpeg", "image/png"})
"""Types that are recompressed. Animations, and formats that are small already, are stored as they came."""


@dataclass(frozen=True, slots=True)
class ImageSize:
    """The size of an image in pixels, after the rotation that its orientation tag asks for."""

    width: int
    height: int
    animated: bool = False


@dataclass(frozen=True, slots=True)
class Recompressed:
    """A smaller file of the same image."""

    data: bytes
    dimensions: ImageSize


def forbid_other_loaders() -> None:
    """Must be called once per process, before the first image."""
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in ("Jpeg", "Png", "Webp", "Nsgif"):
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    pyvips.cache_set_max(0)  # no image comes twice


def read_size(file: Path, max_pixels: int) -> ImageSize:
    """The size, from the header alone. Raises `InvalidField` for a broken header or too many pixels."""
    try:
        image = pyvips.Image.new_from_file(str(file), access="sequential")
        rotated = image.get_typeof("orientation") != 0 and image.get("orientation") >= 5
    except pyvips.Error:
        raise InvalidField("chunk", "the picture's header is broken") from None
    if image.width * image.height > max_pixels:
        raise InvalidField(
            "chunk", f"the picture has {image.width}x{image.height} pixels; at most {max_pixels} are taken"
        )
    animated = image.get_typeof("n-pages") != 0 and image.get("n-pages") > 1
    width, height = (image.height, image.width) if rotated else (image.width, image.height)
    return ImageSize(width, height, animated)


def reason_to_keep(
    mime_type: str, dimensions: ImageSize, size: int, side: int
) -> media_pb2.UnprocessedReason.ValueType:
    """Why recompressing a file of `size` bytes to `side` pixels gains nothing; UNSPECIFIED when it may."""
    if mime_type not in RECOMPRESSED:
        return media_pb2.UNPROCESSED_REASON_TYPE
    if max(dimensions.width, dimensions.height) > side:
        return media_pb2.UNPROCESSED_REASON_UNSPECIFIED
    bits_per_pixel = size * 8 / (dimensions.width * dimensions.height)
    if mime_type == "image/jpeg" and bits_per_pixel > MIN_BITS_PER_PIXEL:
        return media_pb2.UNPROCESSED_REASON_UNSPECIFIED
    return media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY


def recompress(file: Path, mime_type: str, side: int, quality: int) -> Recompressed:
    """The image upright, its longer side at most `side` pixels, without metadata. CPU-bound: use a thread.

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
    return Recompressed(data, ImageSize(image.width, image.height))
