"""`python -m tests.hostile [--json FILE]`: exit code 0 when nothing hostile had an effect."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.hostile.run import try_everything


def main() -> int:
    """Print the figures, and what was wrong."""
    arguments = argparse.ArgumentParser(prog="tests.hostile", description=__doc__)
    arguments.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="sessionmesh-hostile-", ignore_cleanup_errors=True) as folder:
        report = asyncio.run(try_everything(Path(folder), {}))
    for name, figure in report.figures.items():
        print(f"{name:<22} {figure}")
    for fault in report.faults:
        print(f"  {fault}")
    if chosen.json:
        chosen.json.write_text(
            json.dumps({"figures": report.figures, "faults": report.faults}, indent=2) + "\n"
        )
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
