"""What a file is, by its bytes and by what was announced."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mesh_core.errors import InvalidField
from mesh_media.processing.file_types import agreed_type, hinted_type, named_type, sniff
from tests.support.file_heads import HEADS

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(300)
OGG = b"OggS\x00\x02" + bytes(22) + b"OpusHead" + bytes(300)
ZIP = b"PK\x03\x04" + bytes(300)
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + bytes(300)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (JPEG, "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n" + bytes(300), "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(300), "image/webp"),
        (OGG, "audio/ogg"),
        (MP4, "video/mp4"),
        (b"%PDF-1.4", "application/pdf"),
        (b"BEGIN:VCARD\r\n", "text/vcard"),
        (b"just text", ""),
        (b"", ""),
    ],
)
def test_known_files_are_recognised_by_their_first_bytes(head: bytes, kind: str) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize(
    ("declared", "head", "stored"),
    [
        ("", JPEG, "image/jpeg"),
        ("image/jpg", JPEG, "image/jpeg"),
        ("Image/JPEG; charset=binary", JPEG, "image/jpeg"),
        ("application/octet-stream", JPEG, "image/jpeg"),
        ("", b"just text", "application/octet-stream"),
        ("text/csv", b"a,b\n1,2\n", "text/csv"),
        ("application/vnd.example.book", ZIP, "application/vnd.example.book"),
        ("audio/mp4", MP4, "audio/mp4"),
    ],
)
def test_a_type_that_fits_the_bytes_is_taken(declared: str, head: bytes, stored: str) -> None:
    assert agreed_type(declared, head) == stored


@pytest.mark.parametrize(
    ("declared", "head"), HEADS, ids=[f"{number}-{declared}" for number, (declared, _) in enumerate(HEADS)]
)
def test_what_is_what_it_says_is_taken(declared: str, head: bytes) -> None:
    assert agreed_type(declared, head)


def test_what_is_more_exact_than_the_bytes_say_is_kept_and_what_is_mistaken_is_not() -> None:
    docx, pdf = dict(HEADS)[DOCX], b"%PDF-1.7"
    assert agreed_type("application/vnd.apple.pages", ZIP) == "application/vnd.apple.pages"
    assert agreed_type("application/msword", docx) == DOCX
    assert agreed_type("application/x-download", pdf) == "application/pdf"
    assert agreed_type("image/x-photo", JPEG) == "image/jpeg"
    assert agreed_type("image/heif", dict(HEADS)["image/heic"]) == "image/heif"
    assert agreed_type("text/csv", b"BM,Bermuda\n") == "text/csv"


@pytest.mark.parametrize(
    ("declared", "head", "stored"),
    [
        ("image/png", JPEG, "image/jpeg"),
        ("image/jpeg", b"just text", "application/octet-stream"),
        ("no type", JPEG, "image/jpeg"),
        ("text/plain", b"BM and more", "text/plain"),
        ("binary/octet-stream", ZIP, "application/zip"),
        ("binary/octet-stream", b"a,b\n1,2\n", "application/octet-stream"),
    ],
)
def test_a_hint_that_does_not_fit_is_no_matter(declared: str, head: bytes, stored: str) -> None:
    assert hinted_type(declared, head) == stored


@pytest.mark.parametrize(
    ("declared", "head"),
    [
        ("image/png", JPEG),
        ("application/pdf", ZIP),
        ("video/mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("video/quicktime", b"#EXTM3U\n#EXT-X-VERSION:3\n"),
        ("audio/mpeg", b"#EXTM3U\nfile:///etc/passwd\n"),
        ("image/tiff", b"<svg/>"),
        ("text/plain", JPEG),
        ("image/jpeg", b"just text"),
        ("video/mp4", ZIP),
        ("jpeg", JPEG),
        ("image/jpeg\0", JPEG),
    ],
)
def test_a_type_that_does_not_fit_the_bytes_is_refused(declared: str, head: bytes) -> None:
    with pytest.raises(InvalidField, match=r"header\.options\.mime_type"):
        agreed_type(declared, head)


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.csv", b"a;b\n", "text/csv"),
        ("Angebot.DOCX", ZIP, DOCX),
        ("olá.txt", "olá".encode("latin-1"), "text/plain"),
        ("logo.svg", b"<svg/>", "image/svg+xml"),
        ("a.csv", ZIP, ""),
        ("a.csv", b"a\0b", ""),
        ("a.docx", b"%PDF-1.4", ""),
        ("a.pdf", b"no such file", ""),
        ("a.heic", b"no picture", ""),
        ("a.tar.gz", b"\x1f\x8b", ""),
        ("a", b"a", ""),
    ],
)
def test_a_name_says_what_bytes_do_not_where_that_can_be(name: str, head: bytes, said: str) -> None:
    assert named_type(name, head) == said


@pytest.mark.parametrize("mime_type", ["audio/ogg", "audio/mp4", "image/webp", "video/x-matroska", DOCX])
def test_a_type_has_an_ending_that_stands_for_it_wherever_the_system_has_no_table(mime_type: str) -> None:
    environment = {**os.environ, "ASKED": mime_type}
    program = (
        "import mimetypes, os; mimetypes.knownfiles.clear()\n"
        "from mesh_media.processing.name_endings import ending_of, type_of_name\n"
        "print(type_of_name('a' + ending_of(os.environ['ASKED'])))"
    )
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert said.stdout.decode().strip() == mime_type
