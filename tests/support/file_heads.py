"""How files of all sorts begin, by the types that people announce them as."""

from __future__ import annotations

import struct


def _riff(kind: bytes) -> bytes:
    return b"RIFF\x24\x08\x00\x00" + kind


def _box(brand: bytes, *more: bytes) -> bytes:
    brands = brand + bytes(4) + b"".join(more or (brand,))
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + b"\x00\x00\x00\x08free"


def _matroska(kind: bytes) -> bytes:
    return (
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82"
        + kind
        + b"B\x87\x81\x04"
    )


def _zip(name: bytes, content: bytes = b"", *, stored: bool = True) -> bytes:
    head = struct.pack(
        "<4sHHHHHIIIHH",
        b"PK\x03\x04", 20, 0, 0 if stored else 8, 0, 0, 0, len(content), len(content), len(name), 0,
    )  # fmt: skip
    return head + name + content


def _office(folder: bytes) -> bytes:
    return _zip(b"[Content_Types].xml", b"<Types/>") + _zip(b"_rels/.rels", b"<R/>") + _zip(folder, b"<x/>")


_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + b"\x3e\x00\x03\x00\xfe\xff\x09\x00"
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
_JPEG2000 = b"\x00\x00\x00\x0cjP  \r\n\x87\n\x00\x00\x00\x14ftypjp2 \x00\x00\x00\x00jp2 "
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_OOXML = "application/vnd.openxmlformats-officedocument"

HEADS: tuple[tuple[str, bytes], ...] = (
    ("image/jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01"),
    ("image/png", _PNG),
    ("image/gif", b"GIF89a\x01\x00\x01\x00\x80\x00\x00"),
    ("image/webp", _riff(b"WEBPVP8 ")),
    ("image/bmp", b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"),
    ("image/tiff", b"II*\x00\x08\x00\x00\x00"),
    ("image/heic", _box(b"heic", b"mif1", b"heic")),
    ("image/heif", _box(b"mif1", b"mif1", b"heic")),
    ("image/avif", _box(b"avif", b"avif", b"mif1")),
    ("image/jxl", b"\xff\x0a\xfa\x1f\x01\x91\x08\x06\x01\x00"),
    ("image/jp2", _JPEG2000),
    ("image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("image/x-icon", b"\x00\x00\x01\x00\x01\x00\x10\x10"),
    ("image/vnd.microsoft.icon", b"\x00\x00\x01\x00\x01\x00\x10\x10"),
    ("image/vnd.adobe.photoshop", b"8BPS\x00\x01" + bytes(6)),
    ("image/x-adobe-dng", b"II*\x00\x08\x00\x00\x00"),
    ("image/x-canon-cr2", b"II*\x00\x10\x00\x00\x00CR\x02\x00"),
    ("image/vnd.dwg", b"AC1027\x00\x00"),
    ("image/vnd.dxf", b"  0\nSECTION\n  2\nHEADER\n"),
    ("image/x-portable-pixmap", b"P3\n1 1\n255\n0 0 0\n"),
    ("audio/mpeg", b"ID3\x04\x00\x00\x00\x00\x00\x00"),
    ("audio/mp3", b"\xff\xfb\x90\x64\x00\x0f"),
    ("audio/ogg", b"OggS\x00\x02" + bytes(22) + b"OpusHead"),
    ("audio/ogg; codecs=opus", b"OggS\x00\x02" + bytes(22) + b"OpusHead"),
    ("audio/opus", b"OggS\x00\x02" + bytes(22) + b"OpusHead"),
    ("audio/aac", b"\xff\xf1\x50\x80\x01\x3f"),
    ("audio/mp4", _box(b"M4A ", b"M4A ", b"mp42")),
    ("audio/x-m4a", _box(b"M4A ", b"M4A ", b"mp42")),
    ("audio/amr", b"#!AMR\n\x3c\x91"),
    ("audio/amr-wb", b"#!AMR-WB\n\x04"),
    ("audio/wav", _riff(b"WAVEfmt ")),
    ("audio/x-wav", _riff(b"WAVEfmt ")),
    ("audio/flac", b"fLaC\x00\x00\x00\x22"),
    ("audio/midi", b"MThd\x00\x00\x00\x06\x00\x01"),
    ("audio/webm", _matroska(b"\x84webm")),
    ("audio/aiff", b"FORM\x00\x00\x00\x2eAIFFCOMM"),
    ("audio/3gpp", _box(b"3gp4")),
    ("audio/x-ms-wma", _ASF),
    ("audio/basic", b".snd\x00\x00\x00\x18"),
    ("audio/x-caf", b"caff\x00\x01\x00\x00desc"),
    ("audio/x-mpegurl", b"#EXTM3U\nhttps://example.com/a.mp3\n"),
    ("video/mp4", _box(b"isom", b"isom", b"mp41")),
    ("video/3gpp", _box(b"3gp5")),
    ("video/3gpp2", _box(b"3g2a")),
    ("video/quicktime", _box(b"qt  ")),
    ("video/quicktime", b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat"),
    ("video/webm", _matroska(b"\x84webm")),
    ("video/x-matroska", _matroska(b"\x88matroska")),
    ("video/x-msvideo", _riff(b"AVI LIST")),
    ("video/mpeg", b"\x00\x00\x01\xba\x44\x00"),
    ("video/mp2t", (b"G\x40\x00\x10" + bytes(184)) * 3),
    ("video/x-flv", b"FLV\x01\x05\x00\x00\x00\x09"),
    ("video/x-ms-wmv", _ASF),
    ("video/ogg", b"OggS\x00\x02" + bytes(22) + b"\x80theora"),
    ("application/pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    ("application/msword", _OLE),
    ("application/vnd.ms-excel", _OLE),
    ("application/vnd.ms-powerpoint", _OLE),
    ("application/vnd.ms-outlook", _OLE),
    (f"{_OOXML}.wordprocessingml.document", _office(b"word/document.xml")),
    (f"{_OOXML}.spreadsheetml.sheet", _office(b"xl/workbook.xml")),
    (f"{_OOXML}.presentationml.presentation", _office(b"ppt/presentation.xml")),
    (
        "application/vnd.oasis.opendocument.text",
        _zip(b"mimetype", b"application/vnd.oasis.opendocument.text"),
    ),
    ("application/epub+zip", _zip(b"mimetype", b"application/epub+zip")),
    ("application/rtf", b"{\\rtf1\\ansi\n}"),
    ("text/rtf", b"{\\rtf1\\ansi\n}"),
    ("application/zip", _zip(b"a.txt", b"a")),
    ("application/x-zip-compressed", _zip(b"a.txt", b"a")),
    ("application/java-archive", _zip(b"META-INF/MANIFEST.MF", b"1")),
    ("application/vnd.android.package-archive", _zip(b"AndroidManifest.xml", b"1", stored=False)),
    ("application/vnd.google-earth.kmz", _zip(b"doc.kml", b"<kml/>")),
    ("application/vnd.apple.pkpass", _zip(b"pass.json", b"{}")),
    ("application/vnd.apple.pages", _zip(b"Index/Document.iwa", b"1")),
    ("model/3mf", _zip(b"3D/3dmodel.model", b"<m/>")),
    ("application/x-rar-compressed", b"Rar!\x1a\x07\x01\x00"),
    ("application/vnd.rar", b"Rar!\x1a\x07\x01\x00"),
    ("application/x-7z-compressed", b"7z\xbc\xaf\x27\x1c\x00\x04"),
    ("application/gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
    ("application/x-gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
    ("application/x-compressed-tar", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
    ("application/x-tar", b"a.txt" + bytes(252) + b"ustar\x0000" + bytes(240)),
    ("application/x-bzip2", b"BZh91AY&SY\xa0"),
    ("application/x-xz", b"\xfd7zXZ\x00\x00\x04"),
    ("application/x-sqlite3", b"SQLite format 3\x00\x10\x00"),
    ("application/vnd.sqlite3", b"SQLite format 3\x00\x10\x00"),
    ("application/x-msdownload", b"MZ\x90\x00\x03\x00\x00\x00"),
    ("application/vnd.microsoft.portable-executable", b"MZ\x90\x00\x03\x00\x00\x00"),
    ("application/vnd.debian.binary-package", b"!<arch>\ndebian-binary   "),
    ("application/x-iso9660-image", bytes(2048)),
    ("application/octet-stream", b"\x01\x02\x03\x04"),
    ("application/json", b'{"a": 1}'),
    ("application/ld+json", b'{"@context": "x"}'),
    ("application/xml", b'<?xml version="1.0"?><a/>'),
    ("application/gpx+xml", b'<?xml version="1.0"?><gpx/>'),
    ("application/vnd.google-earth.kml+xml", b'<?xml version="1.0"?><kml/>'),
    ("application/javascript", b"export const a = 1\n"),
    ("application/sql", b"SELECT 1;\n"),
    ("application/x-sh", b"#!/bin/sh\necho a\n"),
    ("application/x-subrip", b"1\n00:00:01,000 --> 00:00:02,000\nHello\n"),
    ("application/x-x509-ca-cert", b"-----BEGIN CERTIFICATE-----\nMIIB\n"),
    ("application/pkcs7-signature", b"\x30\x82\x05\x0a\x06\x09"),
    ("application/pgp-encrypted", b"-----BEGIN PGP MESSAGE-----\n\n"),
    ("application/postscript", b"%!PS-Adobe-3.0\n"),
    ("application/illustrator", b"%PDF-1.5\n"),
    ("application/wasm", b"\x00asm\x01\x00\x00\x00"),
    ("application/dicom", bytes(128) + b"DICM"),
    ("application/x-bittorrent", b"d8:announce35:udp://tracker.example.com:80e"),
    ("application/vnd.visio", _OLE),
    ("application/x-mobipocket-ebook", b"Book" + bytes(56) + b"BOOKMOBI"),
    ("message/rfc822", b"From: a@example.com\r\nSubject: x\r\n\r\n"),
    ("font/ttf", b"\x00\x01\x00\x00\x00\x0f\x00\x80"),
    ("font/otf", b"OTTO\x00\x0b\x00\x80"),
    ("font/woff2", b"wOF2\x00\x01\x00\x00"),
    ("model/gltf-binary", b"glTF\x02\x00\x00\x00"),
    ("model/stl", b"solid cube\n facet normal 0 0 0\n"),
    ("x-world/x-vrml", b"#VRML V2.0 utf8\n"),
    ("text/plain", "Grüße\n".encode()),
    ("text/plain; charset=utf-16", "Grüße\n".encode("utf-16")),
    ("text/plain", "Gr\xfc\xdfe\n".encode("latin-1")),
    ("text/plain", b"MZ was here, and GIF89a, too\n"),
    ("text/csv", b"a,b\n1,2\n"),
    ("text/csv", b"BM,Bermuda\nBN,Brunei\n"),
    ("text/tab-separated-values", b"a\tb\n"),
    ("text/html", b"<!doctype html><p>a"),
    ("text/css", b"p { color: red }\n"),
    ("text/markdown", b"# Title\n"),
    ("text/calendar", b"BEGIN:VCALENDAR\r\n"),
    ("text/vcard", b"BEGIN:VCARD\r\nVERSION:3.0\r\n"),
    ("text/x-vcard", b"BEGIN:VCARD\r\nVERSION:3.0\r\n"),
    ("text/x-python", b"import os\n"),
    ("text/yaml", b"a: 1\n"),
    ("text/xml", b'<?xml version="1.0"?><a/>'),
    ("text/vtt", b"WEBVTT\n"),
)
"""What is announced, and how such a file begins."""
