"""What a web page says of itself in its head: title, description and picture."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser

MAX_TITLE = 300
MAX_DESCRIPTION = 1000


@dataclass(frozen=True, slots=True)
class PageHead:
    """Title and description, cut to their limits in characters; `image` is an address, maybe relative."""

    title: str = ""
    description: str = ""
    image: str = ""


def read_head(page: bytes, charset: str = "") -> PageHead:
    """What the beginning of a page says, whatever its form. CPU-bound: a tenth of a second for 128 KiB that
    are hostile.

    `charset` is the answer's own; without it the page's counts, else UTF-8.
    """
    if not charset:
        found = _CHARSET.search(page[:_CHARSET_WITHIN])
        charset = found[1].decode() if found else ""
    text = page.decode(_codec(charset), "replace")
    parser = _HeadParser()
    with suppress(AssertionError):  # raised where a page is beyond the parser; what it found before counts
        parser.feed(text)
    facts = parser.facts
    title = facts.get("og:title") or facts.get("twitter:title") or "".join(parser.title)
    description = (
        facts.get("og:description") or facts.get("twitter:description") or facts.get("description", "")
    )
    image = facts.get("og:image:secure_url") or facts.get("og:image") or facts.get("twitter:image", "")
    return PageHead(_one_line(title)[:MAX_TITLE], _one_line(description)[:MAX_DESCRIPTION], image.strip())


def _codec(charset: str) -> str:
    """The codec of a page that says it is in `charset`; UTF-8 for one that there is none for."""
    if not _IS_CHARSET(charset):  # Python has codecs that take quadratic time; pages have none of these
        return "utf-8"
    try:
        return codecs.lookup(charset).name
    except LookupError:
        return "utf-8"


class _HeadParser(HTMLParser):
    """Collects meta elements and the title, each the first time, until the head ends.

    It is fed once and never closed: closing takes quadratic time on some pages.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.facts: dict[str, str] = {}
        self.title: list[str] = []
        self._in_title = False
        self._head_over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._head_over = True
        elif tag == "title":
            self._in_title = not self.title and not self._head_over
        elif tag == "meta" and not self._head_over:
            values = {name: value or "" for name, value in attrs}
            name = (values.get("property") or values.get("name", "")).strip().lower()
            if name in _FACTS and values.get("content"):
                self.facts.setdefault(name, values["content"])

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "head":
            self._head_over = True

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)


def _one_line(text: str) -> str:
    """`text` on one line, without NUL and lone surrogates, which a proto or a screen cannot show."""
    return " ".join(text.encode("utf-8", "ignore").decode().replace("\0", "").split())


_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,8}=\s{0,8}[\"']?([A-Za-z0-9_-]{1,40})", re.IGNORECASE)
_CHARSET_WITHIN = 4096
_IS_CHARSET = re.compile(
    r"utf-?8|utf-?16(le|be)?|us-ascii|latin1|iso-8859-([1-9]|1[013-6])|windows-125[0-8]|koi8-[ru]"
    r"|shift_jis|euc-(jp|kr)|iso-2022-jp|gb2312|gbk|gb18030|big5",
    re.IGNORECASE,
).fullmatch
_FACTS = frozenset(
    {
        "description",
        "og:description",
        "og:image",
        "og:image:secure_url",
        "og:title",
        "twitter:description",
        "twitter:image",
        "twitter:title",
    }
)
