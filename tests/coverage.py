"""Which tests there are and which lines of lib and services they run, to compare two trees.

    python -m tests.coverage measure [--root DIR] --json F [pytest's arguments]
    python -m tests.coverage compare BEFORE AFTER [--moved FOLDER=PACKAGE]...

`measure` runs the tests of the checkout in DIR (without it: this one) with that checkout's own `.venv`, which
must have `coverage`; the checkout needs nothing of this script. Processes that tests start are measured too,
but not those that start with `python -S` or that are killed.

`compare` prints the lines of each package and which part of them ran, and the tests that went, came or moved
to another file. Its exit code is 1 when a package, or all of them together, is covered less. With
`--moved lib/mesh_core/journal=mesh_session_node` the former files of that folder count to the package where
they are now: otherwise a package seems to fall when well-covered code leaves it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

ROOT = Path(__file__).parents[1]
PACKAGE = re.compile(r"(?:lib|services/[^/]+)/(\w+)/")
CONFIGURATION = """\
[run]
data_file = {folder}/data
source_dirs =
    {sources}
patch =
    subprocess
    _exit
    fork
sigterm = true
parallel = true
core = ctrace
disable_warnings = no-data-collected, module-not-measured, no-sysmon
"""
TOLERANCE = 0.05
"""Percentage points: what a race between two processes may cover in one run and not in the next."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with a statement, and how many of them ran."""

    all: int = 0
    run: int = 0

    @property
    def percent(self) -> float:
        return 100 * self.run / self.all if self.all else 100.0

    def __add__(self, other: Lines) -> Lines:
        return Lines(self.all + other.all, self.run + other.run)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.coverage", description="Compare what tests cover.")
    commands = parser.add_subparsers(required=True, dest="command")
    measuring = commands.add_parser("measure")
    measuring.add_argument("--root", type=Path, default=ROOT)
    measuring.add_argument("--json", type=Path, required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--moved", action="append", default=[], metavar="FOLDER=PACKAGE")
    options, others = parser.parse_known_args(arguments)
    if options.command == "measure":
        report = measure(options.root.resolve(), others)
        options.json.write_text(json.dumps(report, indent=1))
        return int(report["exit_code"])
    if others:
        parser.error(f"what is {others[0]}?")
    before, after = (json.loads(path.read_text()) for path in (options.before, options.after))
    return compare(before, after, dict(each.split("=", 1) for each in options.moved))


def measure(root: Path, pytest_arguments: Sequence[str]) -> dict[str, Any]:
    """Run the tests of `root`; their ids, what failed, and the lines of each file and package."""
    sources = [root / "lib", *sorted(path for path in (root / "services").iterdir() if path.is_dir())]
    with tempfile.TemporaryDirectory(prefix="mesh-coverage-") as name:
        folder = Path(name)
        configuration = folder / "configuration"
        joined = "\n    ".join(map(str, sources))
        configuration.write_text(CONFIGURATION.format(folder=folder, sources=joined))
        results = folder / "results.xml"
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}", *pytest_arguments]
        done = _coverage(root, configuration, "run", *pytest)
        _coverage(root, configuration, "combine", "--quiet")
        _coverage(root, configuration, "json", "--quiet", "-o", str(folder / "lines.json"))
        measured = json.loads((folder / "lines.json").read_text())["files"]
        cases = list(Xml.parse(results).iter("testcase"))
    files = {
        os.path.relpath(root / name, root): Lines(
            each["summary"]["num_statements"], each["summary"]["covered_lines"]
        )
        for name, each in measured.items()
    }
    return {
        "commit": _commit(root),
        "exit_code": done,
        "seconds": round(sum(float(case.get("time", 0)) for case in cases), 1),
        "tests": sorted(_name(case) for case in cases),
        "failed": sorted(_name(case) for case in cases if _has(case, "failure", "error")),
        "skipped": sorted(_name(case) for case in cases if _has(case, "skipped")),
        "seconds_by_file": _seconds_by_file(cases),
        "packages": {name: round(lines.percent, 2) for name, lines in _packages(files, {}).items()},
        "files": {name: asdict(lines) for name, lines in sorted(files.items())},
    }


def compare(before: dict[str, Any], after: dict[str, Any], moved: dict[str, str]) -> int:
    """Print what differs; 1 when coverage falls somewhere."""
    old, new = ({name: Lines(**each) for name, each in report["files"].items()} for report in (before, after))
    old_packages, new_packages = _packages(old, moved), _packages(new, {})
    falls = 0
    print(f"{'package':24} {'lines':>13} {'covered':>16}")
    for name in sorted(old_packages | new_packages):
        falls += _print_row(name, old_packages.get(name), new_packages.get(name))
    falls += _print_row("all", _sum(old.values()), _sum(new.values()))
    for folder, package in moved.items():
        counted = [lines for name, lines in old.items() if name.startswith(folder)]
        print(
            f"counted to {package} before too: {folder}, {len(counted)} files, {_sum(counted).percent:.1f} %"
        )
    for report, word in ((before, "before"), (after, "after")):
        if report["failed"] or report["skipped"]:
            print(f"{word}: {len(report['failed'])} tests failed, {len(report['skipped'])} were skipped")
    _print_tests(set(before["tests"]), set(after["tests"]))
    return 1 if falls else 0


def _print_row(name: str, before: Lines | None, after: Lines | None) -> int:
    """1 when it falls."""
    if before is None or after is None:
        there, word = (after, "new") if before is None else (before, "gone")
        assert there is not None
        print(f"{name:24} {there.all:13} {there.percent:15.1f}% {word}")
        return 0
    falls = after.percent < before.percent - TOLERANCE
    lines = f"{before.all} -> {after.all}"
    print(f"{name:24} {lines:>13} {before.percent:6.2f} -> {after.percent:5.2f}%{' FALLS' if falls else ''}")
    return int(falls)


def _print_tests(before: set[str], after: set[str]) -> None:
    """A test of the same name and parameters in another file was moved."""
    came = {_without_file(test): test for test in after - before}
    moved: Counter[tuple[str, str]] = Counter()
    went = []
    for test in sorted(before - after):
        if now := came.pop(_without_file(test), None):
            moved[_file(test), _file(now)] += 1
        else:
            went.append(test)
    print(f"tests: {len(before)} -> {len(after)}; moved: {moved.total()}")
    for (old, new), number in sorted(moved.items()):
        print(f"  {number:4} {old} -> {new}")
    for word, tests in (("went", went), ("came", sorted(came.values()))):
        print(f"tests that {word}: {len(tests)}")
        for test in tests:
            print(f"  {test}")


def _seconds_by_file(cases: Iterable[Xml.Element]) -> dict[str, float]:
    seconds: dict[str, float] = defaultdict(float)
    for case in cases:
        seconds[case.get("classname", "")] += float(case.get("time", 0))
    return {name: round(each, 1) for name, each in sorted(seconds.items(), key=lambda pair: -pair[1])}


def _file(test: str) -> str:
    return test.partition("::")[0]


def _without_file(test: str) -> str:
    return test.partition("::")[2]


def _packages(files: dict[str, Lines], moved: dict[str, str]) -> dict[str, Lines]:
    """Lines by top-level package; those of files below a folder of `moved` by the package that it names."""
    packages: dict[str, Lines] = {}
    for name, lines in files.items():
        found = PACKAGE.match(name)
        package = next((to for folder, to in moved.items() if name.startswith(folder)), None)
        package = package or (found[1] if found else "")
        if package:
            packages[package] = packages.get(package, Lines()) + lines
    return packages


def _sum(lines: Iterable[Lines]) -> Lines:
    return sum(lines, Lines())


def _name(case: Xml.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


def _has(case: Xml.Element, *tags: str) -> bool:
    return any(case.find(tag) is not None for tag in tags)


def _coverage(root: Path, configuration: Path, command: str, *arguments: str) -> int:
    program = [str(root / ".venv/bin/python"), "-m", "coverage", command, f"--rcfile={configuration}"]
    return subprocess.run([*program, *arguments], cwd=root, stdin=subprocess.DEVNULL, check=False).returncode


def _commit(root: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
