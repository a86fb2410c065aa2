"""Files as strangers send them: whole and harmless ones that look odd, and such as are broken or meant to
hurt. The network brings them, so all of them are to be kept.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pyvips

from tests.support.file_heads import HEADS
from tests.support.media_processing import film, sound
from tests.support.media_world import photograph


@dataclass(frozen=True, slots=True)
class OddFile:
    """A file that comes with a message. `size` is what the network says of its bytes; None: what they are."""

    what: str
    data: bytes
    mime_type: str = "application/octet-stream"
    name: str = ""
    size: int | None = None


@cache
def odd_files() -> tuple[OddFile, ...]:
    """All of them, each different from the others."""
    return (*_names(), *_types(), *_pictures(), *_others(), *_heads())


def _names() -> Iterator[OddFile]:
    names = {
        "a path": "../../etc/passwd",
        "a slash": "offer 1/2026.pdf",
        "a backslash": "C:\\Users\\ann\\offer.pdf",
        "300 characters": "a" * 300 + ".pdf",
        "300 emoji": "\N{SMILING FACE WITH SMILING EYES}" * 300,
        "NUL": "offer\0.pdf",
        "two dots": "..",
        "one dot": ".",
        "blanks": "   ",
        "a line break": "offer\r\nSet-Cookie: a.pdf",
        "an override": "offer\u202efdp.exe",
        "quotes": "offer\"'`;$(rm).pdf",
    }
    for number, (what, name) in enumerate(names.items()):
        yield OddFile(f"a name with {what}", b"%PDF-1.7\n" + bytes([number]) * 100, "application/pdf", name)


def _types() -> Iterator[OddFile]:
    jpeg, png = photograph(80), _png()
    yield OddFile("a JPEG called PNG", jpeg, "image/png")
    yield OddFile("a PNG called JPEG", png, "image/jpeg")
    yield OddFile("parameters", b"a text of ours\n", 'text/plain; charset="utf-8"; format=flowed')
    yield OddFile("no type", b"\x01\x02\x03", "")
    yield OddFile("a type that is none", b"\x01\x02\x04", "jpeg")
    yield OddFile("a type with NUL", b"\x01\x02\x05", "image/jpeg\0")
    yield OddFile("a type of 500 letters", b"\x01\x02\x06", "application/" + "x" * 500)
    yield OddFile("HEIF for HEIC", dict(HEADS)["image/heic"] + b"1", "image/heif")
    yield OddFile("a docx called doc", _docx(), "application/msword")
    yield OddFile("CSV that begins with BM", b"BM,Bermuda\nBN,Brunei\nBO,Bolivia\n", "text/csv")
    yield OddFile("text called a picture", b"no picture at all\n", "image/jpeg")
    yield OddFile("a film called a sound", film(seconds=0.2), "audio/mpeg")
    yield OddFile("a page called a film", b"<!doctype html><script>alert(1)</script>", "video/mp4")
    yield OddFile("a program", b"MZ" + bytes(510), "application/x-msdownload", "invoice.exe")


def _pictures() -> Iterator[OddFile]:
    jpeg, png = photograph(160), _png()
    yield OddFile("a JPEG cut in half", jpeg[: len(jpeg) // 2], "image/jpeg")
    yield OddFile("a JPEG of 20 bytes", jpeg[:20], "image/jpeg")
    yield OddFile("a JPEG with a broken middle", jpeg[:2000] + bytes(500) + jpeg[2500:], "image/jpeg")
    yield OddFile("a PNG cut in half", png[: len(png) // 2], "image/png")
    yield OddFile("a PNG with a wrong checksum", png[:-20] + bytes(20), "image/png")
    yield OddFile("a PNG of ten gigapixels", _png_header(100_000, 100_000), "image/png")
    yield OddFile("a PNG of no pixels", _png_header(0, 0), "image/png")
    yield OddFile("a JPEG whose header lies", _lying_jpeg(jpeg), "image/jpeg")
    yield OddFile("a picture of 120 megapixels", _large(), "image/png")
    yield OddFile("a GIF of 2,000 frames", _gif(2000), "image/gif")
    yield OddFile("a GIF cut off", _gif(3)[:-40], "image/gif")
    yield OddFile("a WebP cut off", _webp()[:-40], "image/webp")
    yield OddFile("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "image/svg+xml")
    yield OddFile("SVG with entities", _SVG_BOMB, "image/svg+xml")
    yield OddFile("SVG with a script", b"<svg><script>fetch('//x')</script></svg>", "image/svg+xml", "a.svg")
    yield OddFile("a picture and an archive", jpeg + _zip(b"a"), "image/jpeg")
    yield OddFile("a picture and a page", jpeg + b"<html><script>1</script>", "image/jpeg")
    yield OddFile("a picture after an empty line", b"\n" + jpeg, "image/jpeg")


def _others() -> Iterator[OddFile]:
    clip = film(seconds=0.4)
    yield OddFile("nothing", b"", "application/pdf", "empty.pdf")
    yield OddFile("one byte", b"x", "text/plain")
    yield OddFile("a size that is too small", b"%PDF-1.7\nmore", "application/pdf", size=3)
    yield OddFile("a size that is too large", b"%PDF-1.7\nless", "application/pdf", size=3000)
    yield OddFile("a size of nothing", b"%PDF-1.7\nsize", "application/pdf", size=0)
    yield OddFile("a size of a disk", b"%PDF-1.7\ndisk", "application/pdf", size=10**12)
    yield OddFile("a film cut off", clip[: len(clip) // 2], "video/mp4")
    yield OddFile("a film of headers alone", clip[:64], "video/mp4")
    yield OddFile("an ffconcat script", b"ffconcat version 1.0\nfile '/etc/passwd'\n", "video/mp4", "a.mp4")
    yield OddFile("a playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "video/mp4", "b.mp4")
    yield OddFile("a playlist called sound", b"#EXTM3U\nhttp://127.0.0.1/\n", "audio/mpeg")
    yield OddFile("a sound cut off", sound()[:500], "audio/mpeg")
    yield OddFile("FLAC", sound(kind="flac"), "audio/flac")
    yield OddFile("an Ogg of zeros", b"OggS" + bytes(400), "audio/ogg; codecs=opus")
    yield OddFile("a bomb as a document", _zip(bytes(20_000_000)), "application/zip", "bomb.zip")
    yield OddFile("an archive cut off", _zip(b"hello" * 99)[:60], "application/zip")
    yield OddFile("a PDF that is cut off", b"%PDF-", "application/pdf")
    yield OddFile("UTF-16 text", "Grüße\n".encode("utf-16"), "text/plain")
    yield OddFile("zeros", bytes(5000), "application/octet-stream")


def _heads() -> Iterator[OddFile]:
    """Beginnings of files, which are whole files to nobody."""
    for number, (declared, head) in enumerate(HEADS):
        if declared.startswith(("image/", "video/", "audio/")):
            yield OddFile(f"a beginning of {declared}", head + b"%d" % number, declared)


def _png() -> bytes:
    noise = pyvips.Image.gaussnoise(120, 90, mean=120, sigma=40).cast("uchar")
    data: bytes = noise.pngsave_buffer()
    return data


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _lying_jpeg(jpeg: bytes) -> bytes:
    """It says that it is 60,000 pixels wide and high."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + b"\xea\x60\xea\x60" + jpeg[at + 4 :]


def _large() -> bytes:
    data: bytes = pyvips.Image.black(12_000, 10_000).pngsave_buffer(compression=1)
    return data


def _gif(frames: int) -> bytes:
    still = pyvips.Image.black(16, 16 * frames).copy()
    still.set_type(pyvips.GValue.gint_type, "page-height", 16)
    data: bytes = (still + pyvips.Image.xyz(16, 16 * frames)[1] % 200).cast("uchar").gifsave_buffer()
    return data


def _webp() -> bytes:
    data: bytes = pyvips.Image.new_from_buffer(photograph(100), "").webpsave_buffer()
    return data


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a"), content)
    return file.getvalue()


def _docx() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("[Content_Types].xml", "_rels/.rels", "word/document.xml"):
            archive.writestr(zipfile.ZipInfo(name), "<x/>")
    return file.getvalue()


_SVG_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    b'<svg xmlns="http://www.w3.org/2000/svg"><text>&c;&f;</text></svg>'
)
