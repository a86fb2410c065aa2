"""`python -m bench NAME [--quick] [--part PART] [--json FILE]`: run a benchmark.

Its figures are printed as a table, and written to FILE as JSON. A benchmark is a module with a function
`run(quick: bool) -> Report`; one that can measure some of its figures without the others names the `PARTS`,
and its `run` takes those that it is to measure, too.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from bench.measuring.report import Report

MODULES = {
    name: f"bench.{name}"
    for name in (
        "contacts",
        "failover",
        "flood",
        "groups",
        "history",
        "message",
        "network",
        "network_outage",
        "outage",
        "placement",
        "restore",
        "retention",
    )
} | {
    name: f"bench.{name}.benchmark" for name in ("fairness", "media", "routing", "telemetry", "whatsapp_web")
}


def main() -> int:
    """The command; returns its exit code."""
    arguments = _parse_arguments()
    module = import_module(MODULES[arguments.name])
    report: Report
    if (parts := getattr(module, "PARTS", None)) is None:
        report = module.run(arguments.quick)
    else:
        report = module.run(arguments.quick, {arguments.part} if arguments.part else {*parts})
    print(report.table())
    if arguments.json is not None:
        arguments.json.write_bytes(report.json())
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run a benchmark.")
    parser.add_argument("name", choices=sorted(MODULES), help="the benchmark to run")
    parser.add_argument("--quick", action="store_true", help="the same figures in under a minute, smaller")
    parser.add_argument("--part", help="measure only this, of a benchmark that has parts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.part:
        parts = getattr(import_module(MODULES[arguments.name]), "PARTS", ())
        if arguments.part not in parts:
            parser.error(f"{arguments.name} has the parts {', '.join(parts) or 'none'}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
