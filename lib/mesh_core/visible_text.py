"""Strangers' text as it is shown on a terminal, which does not obey it.

With control characters it could move the cursor, change colours, set the title or put keys into the
input, and with characters of direction show another text than there is.
"""

from __future__ import annotations

import json
import re


def visible(text: str) -> str:
    """`text` with its control, directional and invisible characters as \\xNN or \\uNNNN; lines stay."""
    return _UNSAFE.sub(lambda found: _escape(ord(found.group())), text)


def visible_line(text: str) -> str:
    """The same as one line, so that nobody's text looks like two."""
    return visible(text).replace("\n", "\\n")


def visible_json(text: str) -> str:
    """JSON that means what `text` does, with such characters as JSON writes them in ASCII."""
    return _UNSAFE.sub(lambda found: json.dumps(found.group())[1:-1], text)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_UNSAFE = re.compile(
    "["
    "\x00-\x09\x0b-\x1f\x7f-\x9f"  # controls of C0 and C1, but for the end of a line
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible, or ends of lines
    "\ud800-\udfff"  # halves of characters, which cannot be written
    "\U000e0000-\U000e007f"  # tags
    "]"
)
