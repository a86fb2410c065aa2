"""Makes pictures smaller: upright, without metadata, with their small pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pyvips

from mesh_media.processing import kinds
from mesh_media.processing.jobs import Job, Outcome
from mesh_media.processing.levels import FOR_A_PURPOSE, Level
from mesh_media.processing.worker.metadata import without_metadata
from mesh_media.processing.worker.picture_files import HEIF, Header, opened, read_header
from mesh_media.processing.worker.results import THUMBNAIL_SIDE, WHITE, small_pictures, write_output
from mesh_media.processing.worker.unfit import not_convertible
from sessionmesh.v1 import media_pb2

Unprocessed: TypeAlias = media_pb2.UnprocessedReason.ValueType


def process(job: Job) -> Outcome:
    """The smaller of the picture as it came and the picture recompressed; of HEIC always the latter. Raises
    `CannotProcess`.
    """
    header = read_header(job)
    reason = _reason_to_keep(job, header)
    level = job.level
    if reason or level is None:
        return _kept(job, header, reason, opened(job, THUMBNAIL_SIDE))
    image = opened(job, level.side)
    mime_type, data = _encoded(image, job.mime_type, level)
    if len(data) >= job.size and job.mime_type not in HEIF:  # which networks do not take
        return _kept(job, header, media_pb2.UNPROCESSED_REASON_NOT_SMALLER, image)
    return _made(mime_type, data, image.width, image.height, image)


def process_shown(job: Job) -> Outcome:
    """A picture of a type that networks show: what `process` makes of such a one, a JPEG of any other. Raises
    `CannotProcess`.
    """
    if job.mime_type in kinds.SHOWN_PICTURES:
        return process(job)
    if job.mime_type not in kinds.PICTURES | kinds.OTHER_PICTURES:
        raise not_convertible("a picture is made of a picture")
    read_header(job)
    level = job.level or FOR_A_PURPOSE
    image = opened(job, level.side)
    return _made("image/jpeg", _jpeg(image, level), image.width, image.height, image)


def reason_to_keep(mime_type: str, header: Header, size: int, level: Level) -> Unprocessed:
    """Why recompressing a file of `size` bytes gains nothing; UNSPECIFIED when it may."""
    if header.animated or mime_type == "image/gif":
        return media_pb2.UNPROCESSED_REASON_TYPE
    if header.side > level.side or mime_type in HEIF:
        return media_pb2.UNPROCESSED_REASON_UNSPECIFIED
    if mime_type != "image/jpeg":
        return media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY
    bits_per_pixel = size * 8 / (header.width * header.height)
    if bits_per_pixel <= level.bits_per_pixel or header.coarseness >= _coarseness_of(level.quality):
        return media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY
    return media_pb2.UNPROCESSED_REASON_UNSPECIFIED


def _reason_to_keep(job: Job, header: Header) -> Unprocessed:
    if job.level is None:
        return media_pb2.UNPROCESSED_REASON_OFF
    return reason_to_keep(job.mime_type, header, job.size, job.level)


def _made(mime_type: str, data: bytes, width: int, height: int, image: pyvips.Image) -> Outcome:
    name, size, sha256 = write_output(data)
    thumbnail, preview = small_pictures(image)
    return Outcome(
        mime_type=mime_type,
        output=name,
        size=size,
        sha256=sha256,
        width=width,
        height=height,
        thumbnail=thumbnail,
        preview=preview,
    )


def _kept(job: Job, header: Header, reason: Unprocessed, image: pyvips.Image) -> Outcome:
    if reason in _FINE and not job.foreign:
        came = Path(job.path).read_bytes()
        bare = without_metadata(came, job.mime_type)
        if len(bare) < len(came):
            return _made(job.mime_type, bare, header.width, header.height, image)
    thumbnail, preview = small_pictures(image)
    return Outcome(
        mime_type=job.mime_type,
        unprocessed=reason,
        width=header.width,
        height=header.height,
        animated=header.animated,
        thumbnail=thumbnail,
        preview=preview,
    )


def _encoded(image: pyvips.Image, mime_type: str, level: Level) -> tuple[str, bytes]:
    encode = _ENCODERS.get(mime_type)
    if encode is None:  # HEIC, which networks do not take
        return "image/jpeg", _jpeg(image, level)
    return mime_type, encode(image, level)


def _jpeg(image: pyvips.Image, level: Level) -> bytes:
    if image.hasalpha():
        image = image.flatten(background=WHITE)
    data: bytes = image.jpegsave_buffer(
        Q=level.quality,
        trellis_quant=True,
        overshoot_deringing=True,
        optimize_scans=True,
        interlace=True,
        optimize_coding=True,
        keep="icc",
    )
    return data


def _png(image: pyvips.Image, _level: Level) -> bytes:
    data: bytes = image.pngsave_buffer(compression=9, keep="icc")
    return data


def _webp(image: pyvips.Image, level: Level) -> bytes:
    data: bytes = image.webpsave_buffer(Q=level.quality, keep="icc")
    return data


def _coarseness_of(quality: int) -> float:
    """What `Header.coarseness` is of JPEGs of this quality at least, by the scale of libjpeg."""
    scale = (200 - 2 * quality) / 100 if quality >= 50 else 50 / quality
    return _COARSENESS_AT_50 * scale * _ROUNDING


_FINE = frozenset({media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY, media_pb2.UNPROCESSED_REASON_NOT_SMALLER})
"""Why a picture is kept that would say no more of itself if it had been recompressed."""
_COARSENESS_AT_50, _ROUNDING = 3688, 0.98
_ENCODERS: dict[str, Callable[[pyvips.Image, Level], bytes]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
}
