"""`python -m bench NAME [--quick] [--json FILE]`: run a benchmark.

Its figures are printed as a table, and written to FILE as JSON. A benchmark is a module with a function
`run(quick: bool) -> Report`.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from bench.measuring.report import Report

MODULES = {
    name: f"bench.{name}"
    for name in ("failover", "message", "network", "network_outage", "outage", "placement", "retention")
} | {name: f"bench.{name}.benchmark" for name in ("fairness", "media", "routing", "whatsapp_web")}


def main() -> int:
    """The command; returns its exit code."""
    arguments = _parse_arguments()
    report: Report = import_module(MODULES[arguments.name]).run(arguments.quick)
    print(report.table())
    if arguments.json is not None:
        arguments.json.write_bytes(report.json())
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run a benchmark.")
    parser.add_argument("name", choices=sorted(MODULES), help="the benchmark to run")
    parser.add_argument("--quick", action="store_true", help="the same figures in under a minute, smaller")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
