"""What a server says is shown on a terminal, not obeyed by it.

Names, texts and errors come from strangers. `Terminal` and `say` show characters that are not safe by their
numbers. Every command prints through them, or JSON in ASCII.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from mesh_core.visible_text import visible

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
