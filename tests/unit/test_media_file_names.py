"""What files are called, whoever names them."""

from __future__ import annotations

import pytest
from asyncpg.pgproto.pgproto import UUID
from yarl import URL

from mesh_core.errors import InvalidField
from mesh_media.ingest.announcements import Policy, announce
from mesh_media.ingest.file_names import given_name, name_of_answer
from sessionmesh.v1 import media_pb2


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("two\nlines.pdf", "twolines.pdf"),
        ("cat\u202efdp.exe", "catfdp.exe"),
        ("\u200ephoto\u2028.jpg", "photo.jpg"),
        ("\x1b]0;title\x07a.pdf", "]0;titlea.pdf"),
        ("Bildschirmfoto um 1\u202f02.png", "Bildschirmfoto um 1\u202f02.png"),
        ("Grüße 👩\u200d👧.pdf", "Grüße 👩\u200d👧.pdf"),
        ("\n", ""),
        ("", ""),
    ],
)
def test_a_callers_name_loses_what_nobody_would_see_of_it(given: str, kept: str) -> None:
    assert given_name("name", given) == kept
    options = media_pb2.StorageOptions(file_name=given)
    for origin in media_pb2.MediaOrigin.values():
        assert announce(_OWNER, origin, options, Policy()).options.file_name == kept


@pytest.mark.parametrize("name", ["../a", "a\\b", "..", ".", "nul\0", "a" * 256])
def test_a_callers_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidField):
        given_name("name", name)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a b.pdf"', "a b.pdf"),
        ("attachment; filename=EURO.txt; filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"),
        ('inline; filename="shown"', "shown"),
        ('attachment; filename="..\\\\..\\\\passwd"', "passwd"),
        ("attachment; filename*=UTF-8''a%0Ab.txt", "ab.txt"),
        ("attachment; filename=Fatura de maio (1).pdf", "Fatura de maio (1).pdf"),
        ("attachment; filename=ação.pdf", "ação.pdf"),
        ('attachment; filename="r%C3%A9sum%C3%A9.pdf"', "résumé.pdf"),
        ('attachment; filename="100%.pdf"', "100%.pdf"),
        ("attachment; filename=a\udce7ao x.pdf", "über.pdf"),
        ("attachment", "über.pdf"),
        ("", "über.pdf"),
        ("garbage;;==", "über.pdf"),
        ("attachment; filename*=UTF-8''%ff%fe", "über.pdf"),
    ],
)
def test_a_file_of_the_web_is_called_what_its_server_says_or_else_its_address(
    disposition: str, name: str
) -> None:
    assert name_of_answer(disposition, URL("https://example.com/a/%C3%BCber.pdf?x=1")) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("", ""),
        ("/", ""),
        ("/photos/123", ""),
        ("/get.php", ""),
        ("/a.tar.gz", "a.tar.gz"),
        ("/a.docx", "a.docx"),
        ("/a.heic", "a.heic"),
        ("/a%2Fb.png", "a_b.png"),
    ],
)
def test_an_address_names_a_file_only_where_it_ends_as_names_do(address: str, name: str) -> None:
    assert name_of_answer("", URL(f"https://example.com{address}", encoded=True)) == name


_OWNER = (UUID(bytes(16)), None)
