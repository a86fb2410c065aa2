"""`python -I -S -E mesh_parent/__main__.py watchdog|prefork OPTIONS -- COMMAND...`"""

from __future__ import annotations

import os
import sys

# This interpreter knows the standard library alone. Last, so that nothing there hides a module of it.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

EXIT_BAD_SETTINGS = 64


def main(arguments: list[str]) -> int:
    """Run the parent that the first argument names; returns its exit code."""
    # Each parent is imported only where it runs: the other one's needs are memory here.
    match arguments:
        case ["watchdog", *rest]:
            from mesh_parent import watchdog

            return watchdog.main(rest)
        case ["prefork", *rest]:
            from mesh_parent import prefork

            return prefork.main(rest)
    os.write(2, b"usage: mesh_parent watchdog|prefork OPTIONS -- COMMAND...\n")
    return EXIT_BAD_SETTINGS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
