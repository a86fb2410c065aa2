"""The parent processes of the mesh: what starts services as its children, and starts them again.

`watchdog` is the parent of one session-node, `prefork` that of several routers on one port. There is one
beside every such service, so it stays at some 7 MB: it imports a little of the standard library and nothing
else, never `asyncio`, `subprocess`, `logging` or `dataclasses`, and runs in an interpreter without
site-packages. `launcher` is the step in between by which a server becomes one that ends with its parent.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` is more than all that stands here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def command_line(parent: str, options: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """Program and arguments that run `command` under a parent, "watchdog" or "prefork", with its options."""
    # The file and not its folder, which Python would put before the standard library in its path.
    main = os.path.join(os.path.dirname(__file__), "__main__.py")
    words = [word for pair in options.items() for word in pair]
    return [sys.executable, "-I", "-S", "-E", main, parent, *words, "--", *command]
