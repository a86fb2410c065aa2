"""Pictures as files of strangers: only the loaders that are needed may run, and what the header says is
checked before a pixel is decoded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import PIL.ImageOps
import pillow_heif
import pyvips
from PIL import JpegImagePlugin

from mesh_media.processing.jobs import Job
from mesh_media.processing.worker.unfit import broken, too_complex

MOST_WHOLE_PIXELS = 16 * 1024 * 1024
"""Of pictures that must be in memory whole to be decoded: progressive and interlaced ones, WebP and GIF."""

MOST_HEIF_PIXELS = 50_000_000

_PADDING = 4096
"""Bytes at the end of a GIF that may be zero."""

MOST_OTHER_PIXELS = 32 * 1024 * 1024
"""Of pictures of other types, which are in memory twice."""

HEIF = frozenset({"image/heic", "image/heif"})


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself. Its size is in pixels, upright; `coarseness` is of a JPEG's colours: the
    sum of its first quantisation table.
    """

    width: int
    height: int
    animated: bool = False
    coarseness: int = 0

    @property
    def side(self) -> int:
        """Pixels of the longer side."""
        return max(self.width, self.height)


def forbid_other_loaders() -> None:
    """Once per process, before the first picture."""
    pyvips.operation_block_set("VipsForeignLoad", True)
    for loader in ("Jpeg", "Png", "Webp", "Nsgif"):
        pyvips.operation_block_set(f"VipsForeignLoad{loader}", False)
    pyvips.cache_set_max(0)  # no picture comes twice
    PIL.Image.MAX_IMAGE_PIXELS = None  # checked here, by type


def read_header(job: Job) -> Header:
    """The header, and no pixel. Raises `CannotProcess` for a broken one and for too many pixels."""
    if job.mime_type in HEIF:
        return _read_heif_header(job)
    if job.mime_type in _OTHERS:
        with _opened_other(job) as picture:
            return Header(*picture.size)
    try:
        image = pyvips.Image.new_from_file(job.path, access="sequential")
    except pyvips.Error:
        raise broken("picture") from None
    if job.mime_type == "image/gif" and not _has_gif_trailer(job.path):
        raise broken("picture")
    whole = _field(image, "interlaced") or job.mime_type in ("image/webp", "image/gif")
    most = min(job.max_pixels, MOST_WHOLE_PIXELS) if whole else job.max_pixels
    _check_pixels(image.width, image.height, most)
    turned = _field(image, "orientation") >= 5
    width, height = (image.height, image.width) if turned else (image.width, image.height)
    coarseness = _coarseness(job.path) if job.mime_type == "image/jpeg" else 0
    return Header(width, height, _field(image, "n-pages") > 1, coarseness)


def opened(job: Job, side: int) -> pyvips.Image:
    """The picture upright, in memory, its longer side at most `side` pixels. Raises `CannotProcess`."""
    if job.mime_type in HEIF:
        image = _heif_pixels(job).thumbnail_image(side, height=side, size="down")
        return image.copy_memory()
    if job.mime_type in _OTHERS:
        return _other_pixels(job).thumbnail_image(side, height=side, size="down").copy_memory()
    try:
        printed = pyvips.Image.new_from_file(job.path, access="sequential").interpretation == "cmyk"
        # Else the profile of its inks stays with the colours that they become, and libvips crashes on that.
        colours = {"export_profile": "srgb"} if printed else {}
        image = pyvips.Image.thumbnail(
            job.path, side, height=side, size="down", fail_on="truncated", **colours
        )
        return image.copy_memory()
    except pyvips.Error:
        raise broken("picture") from None


def _read_heif_header(job: Job) -> Header:
    heif = _opened_heif(job)
    width, height = heif.size
    _check_pixels(width, height, min(job.max_pixels, MOST_HEIF_PIXELS))
    return Header(width, height)


def _heif_pixels(job: Job) -> pyvips.Image:
    heif = _opened_heif(job)
    bands = len(heif.mode)
    image = pyvips.Image.new_from_memory(heif.data, heif.stride // bands, heif.size[1], bands, "uchar")
    image = image.crop(0, 0, *heif.size).copy(interpretation="srgb")
    if profile := heif.info.get("icc_profile"):
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def _other_pixels(job: Job) -> pyvips.Image:
    try:
        with _opened_other(job) as picture:
            PIL.ImageOps.exif_transpose(picture, in_place=True)
            pixels = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError):
        raise broken("picture") from None
    return pyvips.Image.new_from_memory(pixels.tobytes(), *pixels.size, len(pixels.getbands()), "uchar").copy(
        interpretation="srgb"
    )


def _opened_other(job: Job) -> PIL.Image.Image:
    """Raises `CannotProcess`."""
    try:
        picture = PIL.Image.open(job.path, formats=(_OTHERS[job.mime_type],))
    except (OSError, ValueError, SyntaxError):
        raise broken("picture") from None
    _check_pixels(*picture.size, min(job.max_pixels, MOST_OTHER_PIXELS))
    return picture


def _opened_heif(job: Job) -> pillow_heif.HeifFile:
    try:
        return pillow_heif.open_heif(job.path, convert_hdr_to_8bit=True)
    except (ValueError, EOFError, RuntimeError):
        raise broken("picture") from None


def _check_pixels(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise too_complex(f"the picture has {width}x{height} pixels; at most {most} of its kind are taken")


def _field(image: pyvips.Image, name: str) -> int:
    return int(image.get(name)) if image.get_typeof(name) else 0


def _has_gif_trailer(path: str) -> bool:
    """Whether the end is there, which nothing else tells: frames are counted, not announced."""
    with Path(path).open("rb") as file:
        file.seek(-min(_PADDING, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b"\x3b")


def _coarseness(path: str) -> int:
    try:
        with PIL.Image.open(path, formats=("JPEG",)) as picture:
            assert isinstance(picture, JpegImagePlugin.JpegImageFile)  # noqa: S101 - by the formats
            return sum(next(iter(picture.quantization.values()), ()))
    except (OSError, ValueError, SyntaxError):
        raise broken("picture") from None


_OTHERS = {"image/bmp": "BMP", "image/tiff": "TIFF", "image/avif": "AVIF", "image/apng": "PNG"}
"""Types that libvips may not open, and who reads them."""
