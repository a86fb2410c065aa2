"""What a server says is shown on a terminal, not obeyed by it.

Names, texts and errors come from strangers: with control characters they could move the cursor, change
colours, set the title or put keys into the input, and with characters of direction show another text
than there is. `Terminal` and `say` show such characters by their numbers. Every command prints through them,
or JSON in ASCII.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

PIPE_WIDTH = 200


class Terminal(Console):
    """A console that shows unsafe characters of all that is printed as escapes; its own styles stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's own; what is nested is rendered through here, too."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def wide_console() -> Terminal:
    """A console that does not wrap at 80 characters when its output goes to a pipe."""
    return Terminal(width=None if Terminal().is_terminal else PIPE_WIDTH)


def say(text: str) -> None:
    """Print a line as it is, at once, but for unsafe characters."""
    sys.stdout.write(visible(text) + "\n")
    sys.stdout.flush()


def visible(text: str) -> str:
    """`text` with its control, directional and invisible characters as \\xNN or \\uNNNN; lines stay."""
    return _UNSAFE.sub(lambda found: _escape(ord(found.group())), text)


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
