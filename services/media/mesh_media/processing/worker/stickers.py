"""Makes stickers: WebP of 512 by 512 pixels, animated if the picture was."""

from __future__ import annotations

import io
from collections.abc import Callable
from math import ceil

import PIL.Image
import PIL.ImageOps
import pyvips

from mesh_media.processing import kinds
from mesh_media.processing.jobs import Job, Outcome
from mesh_media.processing.worker.picture_files import Header, opened, read_header
from mesh_media.processing.worker.results import small_pictures, write_output
from mesh_media.processing.worker.unfit import not_convertible, too_complex
from sessionmesh.v1 import media_pb2

SIDE = 512
MOST_STATIC_BYTES, MOST_ANIMATED_BYTES = 100_000, 500_000
MOST_FRAMES = 80
"""Of a longer animation every second frame is taken, or every third: all that are taken are in memory."""
MOST_ANIMATED_PIXELS = 200_000_000
"""Of all frames together, of the animation that came."""
_QUALITIES = (75, 45, 15)
_DEFAULT_FRAME_MS = 100


def process(job: Job) -> Outcome:
    """The sticker, or the file that came when it is one. Raises `CannotProcess`."""
    if job.mime_type not in kinds.PICTURES | kinds.OTHER_PICTURES:
        raise not_convertible("a sticker is made of a picture")
    header = read_header(job)
    most = MOST_ANIMATED_BYTES if header.animated else MOST_STATIC_BYTES
    if job.mime_type == "image/webp" and (header.width, header.height) == (SIDE, SIDE) and job.size <= most:
        return _outcome(job, header, unprocessed=media_pb2.UNPROCESSED_REASON_COMPRESSED_ALREADY)
    encode = _animated(job) if header.animated else _static(job)
    for quality in _QUALITIES:
        data = encode(quality)
        if len(data) <= most:
            return _outcome(job, header, data=data)
    raise not_convertible(f"the sticker would have more than {most} bytes")


def _outcome(job: Job, header: Header, *, data: bytes = b"", unprocessed: int = 0) -> Outcome:
    thumbnail, preview = small_pictures(opened(job, SIDE))
    name, size, sha256 = write_output(data) if data else ("", 0, b"")
    return Outcome(
        mime_type="image/webp",
        unprocessed=unprocessed,
        output=name,
        size=size,
        sha256=sha256,
        width=SIDE,
        height=SIDE,
        animated=header.animated,
        thumbnail=thumbnail,
        preview=preview,
    )


def _static(job: Job) -> Callable[[int], bytes]:
    """Encodes the sticker with a quality."""
    image = opened(job, SIDE)
    if not image.hasalpha():
        image = image.addalpha()
    left, top = (SIDE - image.width) // 2, (SIDE - image.height) // 2
    image = image.embed(left, top, SIDE, SIDE, extend=pyvips.Extend.BLACK)  # transparent
    return lambda quality: image.webpsave_buffer(Q=quality, keep="none")


def _animated(job: Job) -> Callable[[int], bytes]:
    """Encodes the sticker with a quality."""
    with PIL.Image.open(job.path, formats=("GIF", "WEBP")) as picture:
        count: int = getattr(picture, "n_frames", 1)
        if count * picture.width * picture.height > MOST_ANIMATED_PIXELS:
            raise too_complex(f"the animation has {count} frames of {picture.width}x{picture.height} pixels")
        frames, times = _frames(picture, count)

    def encode(quality: int) -> bytes:
        made = io.BytesIO()
        frames[0].save(
            made,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=times,
            loop=0,
            quality=quality,
            method=1,
        )
        return made.getvalue()

    return encode


def _frames(picture: PIL.Image.Image, count: int) -> tuple[list[PIL.Image.Image], list[int]]:
    """Frames as they are shown in a sticker, and for how many milliseconds each."""
    step = ceil(count / MOST_FRAMES)
    frames: list[PIL.Image.Image] = []
    times: list[int] = []
    for at in range(count):
        picture.seek(at)
        if at % step == 0:
            frames.append(_in_the_middle(picture.convert("RGBA")))
            times.append(0)
        times[-1] += int(picture.info.get("duration") or _DEFAULT_FRAME_MS)
    return frames, times


def _in_the_middle(frame: PIL.Image.Image) -> PIL.Image.Image:
    shown = PIL.ImageOps.contain(frame, (SIDE, SIDE))
    canvas = PIL.Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(shown, ((SIDE - shown.width) // 2, (SIDE - shown.height) // 2))
    return canvas
