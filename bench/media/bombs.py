"""Small files that are meant to cost their reader much memory or time."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path

import imageio_ffmpeg
import PIL.Image

SIDE = 10_000
"""Pixels of pictures that must be in memory whole: few enough for the limit of all pictures."""


def bombs(folder: Path) -> Mapping[str, tuple[str, bytes]]:
    """Type and bytes of each, by name."""
    return {
        "png_10_gigapixels": ("image/png", png(100_000, 100_000, b"")),
        "png_interlaced": ("image/png", png(SIDE, SIDE, _zeros(SIDE * SIDE + 2 * SIDE), interlaced=True)),
        "jpeg_4_gigapixels": ("image/jpeg", jpeg(65_500, 65_500)),
        "jpeg_progressive": ("image/jpeg", jpeg(SIDE, SIDE, progressive=True)),
        "webp_lying": ("image/webp", webp(16_000, 16_000)),
        "gif_2000_frames": ("image/gif", gif(2000, 1000)),
        "mp4_24_hours": ("video/mp4", film_of_a_day(folder)),
    }


def png(width: int, height: int, compressed: bytes, *, interlaced: bool = False) -> bytes:
    """A grey PNG that says so, whatever its compressed rows hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, int(interlaced))
    chunks = ((b"IHDR", header), (b"IDAT", compressed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    """A small JPEG whose header says another size."""
    data = bytearray(_encoded("JPEG", progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """A small lossless WebP whose header says another size."""
    data = bytearray(_encoded("WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little")
    bits = (bits & ~0xFFFFFFF) | (width - 1) | (height - 1) << 14
    data[at : at + 4] = bits.to_bytes(4, "little")
    return bytes(data)


def gif(frames: int, side: int) -> bytes:
    """A GIF of frames of one pixel on a square canvas."""
    frame = (
        b"\x21\xf9\x04\x00\x02\x00\x00\x00"
        b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    )
    header = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    return header + frame * frames + b"\x3b"


def film_of_a_day(folder: Path) -> bytes:
    """An MP4 of 24 hours, with a frame a minute."""
    path = folder / "day.mp4"
    source = "color=size=640x360:rate=1/60:duration=86400"
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*ffmpeg, "-c:v", "libx264", "-preset", "ultrafast", str(path)], check=True)
    return path.read_bytes()


def _encoded(kind: str, **options: bool) -> bytes:
    made = io.BytesIO()
    PIL.Image.effect_noise((64, 64), 50).convert("RGB").save(made, kind, **options)
    return made.getvalue()


def _zeros(count: int) -> bytes:
    compressor = zlib.compressobj(9)
    return compressor.compress(bytes(count)) + compressor.flush()
