"""What is found in a page's head, and that no page makes it slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_session_node.outbound.link_previews import MAX_PAGE_BYTES, first_link
from mesh_session_node.outbound.page_head import PageHead, read_head

OPEN_GRAPH = """<!doctype html><html><head><title>Shop &amp; more</title>
<meta name="description" content="All we sell">
<meta property="og:title" content="Shoes &lt;3"><meta property='og:description' content='Warm "ones"'>
<meta property="og:image" content="/shoe.jpg"></head><body><title>no</title></body></html>"""


def test_open_graph_is_preferred() -> None:
    assert read_head(OPEN_GRAPH.encode()) == PageHead("Shoes <3", 'Warm "ones"', "/shoe.jpg")


def test_without_open_graph_title_and_description_count() -> None:
    page = b"<title>\n Shop &amp;\tmore </title><meta NAME=Description content='All we sell'>"
    assert read_head(page) == PageHead("Shop & more", "All we sell", "")


def test_what_stands_behind_the_head_does_not_count() -> None:
    page = b"<head></head><meta name=description content=x><body><title>y</title>"
    assert read_head(page) == PageHead()


def test_the_first_of_two_counts() -> None:
    page = b"<meta property=og:title content=one><meta property=og:title content=two>"
    assert read_head(page).title == "one"


@pytest.mark.parametrize(
    ("page", "charset", "title"),
    [
        ("<title>Grüße</title>".encode(), "", "Grüße"),
        ("<title>Grüße</title>".encode("latin1"), "iso-8859-1", "Grüße"),
        ("<meta charset='windows-1252'><title>Grüße</title>".encode("cp1252"), "", "Grüße"),
        ("<title>Grüße</title>".encode(), "no-charset", "Grüße"),
        ("<title>Grüße</title>".encode(), "punycode", "Grüße"),
        ("<title>Grüße</title>".encode(), "utf16le", "Grüße"),
        (b"<title>a\xff\0b</title>", "", "a\ufffdb"),
    ],
)
def test_characters_are_those_that_were_meant(page: bytes, charset: str, title: str) -> None:
    assert read_head(page, charset).title == title


@pytest.mark.parametrize("charset", ["utf16le", "utf16be", "UTF16LE", "UTF-16LE"])
def test_a_charset_that_there_is_no_codec_for_is_read_all_the_same(charset: str) -> None:
    read_head(b"<title>x</title>", charset)
    read_head(f"<meta charset='{charset}'><title>x</title>".encode())


@given(st.text(max_size=40))
def test_any_charset_is_read(charset: str) -> None:
    read_head(b"<title>x</title>", charset)


def test_long_texts_are_cut() -> None:
    page = f"<title>{'ü' * 400}</title><meta name=description content='{'ü' * 1100}'>".encode()
    head = read_head(page)
    assert (len(head.title), len(head.description)) == (300, 1000)


@given(
    st.one_of(
        st.binary(),
        st.lists(st.sampled_from(["<", "<!", "<![", "<a '", "<title>", "&#x", "]>"])).map(
            lambda parts: "".join(parts).encode()
        ),
    )
)
def test_any_bytes_are_read(page: bytes) -> None:
    read_head(page)


@pytest.mark.parametrize(
    "repeated",
    ["<", "<a ", "<a '", "<!--", "<title>&", "<meta charset", "&", "</a ", "<script>", "<p>", "<a\0"],
)
def test_no_page_takes_long(repeated: str) -> None:
    page = (repeated * MAX_PAGE_BYTES)[:MAX_PAGE_BYTES].encode()
    started = time.process_time()
    read_head(page)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("no link", ""),
        ("see https://example.org/a?b=c#d, please", "https://example.org/a?b=c#d"),
        ("HTTP://example.org.", "HTTP://example.org"),
        ("(https://example.org/a_(b))", "https://example.org/a_(b)"),
        ("<https://example.org/>", "https://example.org/"),
        ("https://one.example https://two.example", "https://one.example"),
        ("ftp://example.org", ""),
        ("https://example.org/" + "a" * 2048, ""),
        ("https://", ""),
    ],
)
def test_the_first_link_of_a_text_is_found_as_it_stands(text: str, link: str) -> None:
    assert first_link(text) == link
