"""How much of the API the last test run has shown, by what its servers are on record with.

    python -m tests.api_report [--json F] [--records DIR]

Prints a line for every method that is served and lacks something, and writes the figures:

    calls                         methods of the public protos
    calls_served                  of them answered OK by a server of ours (others may be refused before it is
                                  known that they are not served)
    served_tested_ok              of these answered OK to a passed test that read the effect back
    served_tested_bad             of these refused for what the caller did, outside of the fuzz
    fuzz_messages_per_call        answers of the router to the fuzz, for the served method with the fewest
    fuzz_near_valid_percent       of them to requests one field away from a valid one, likewise
    fuzz_past_validation_percent  of all answers to the fuzz, those that were not INVALID_ARGUMENT
    fuzz_internal                 answers to the fuzz that were INTERNAL or UNKNOWN
    cross_tenant_leaks            calls that told, or did, something of another tenant's
    content_kinds                 kinds of content that an account of the simulated network can send
    content_kinds_round_trip      of these, those that another account was seen to get as they were sent
    linked_content_kinds, linked_content_kinds_round_trip
                                  the same of linked devices, on the network that stands in for WhatsApp

The last five are counted by tests themselves, and missing where these did not run.

Records are those of the last run of pytest (`tests/support/answers`), be it of one test or of all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.answers.plugin import last_run
from tests.support.answers.records import Answer, Records, Window
from tests.support.answers.sitecustomize import FOLDER_VARIABLE
from tests.support.api_methods import ApiMethod, public_methods

ROOT = Path(__file__).parents[1]
NEAR = "tests/acceptance/test_fuzz.py::test_near_valid["
RANDOM = "tests/acceptance/test_fuzz.py::test_random["
ENTRY = "mesh_router."
"""Whom the fuzz talks to: each of its messages is answered there once."""
REFUSALS = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
    }
)
COUNTED = (
    "cross_tenant_leaks",
    "content_kinds",
    "content_kinds_round_trip",
    "linked_content_kinds",
    "linked_content_kinds_round_trip",
)
DEFECTS = frozenset({"INTERNAL", "UNKNOWN"})


@dataclass(slots=True)
class Shown:
    """What is on record of one method."""

    served: bool = False
    read_back: bool = False
    refused: bool = False
    near: Counter[str] = field(default_factory=Counter)
    random: Counter[str] = field(default_factory=Counter)

    @property
    def fuzzed(self) -> Counter[str]:
        return self.near + self.random

    @property
    def near_percent(self) -> float:
        return _percent(self.near.total(), self.fuzzed.total())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.api_report", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--records", type=Path, default=os.environ.get(FOLDER_VARIABLE))
    options = parser.parse_args(arguments)
    records = Records(options.records or last_run(ROOT))
    shown = show(records)
    report = figures(shown) | counted(records)
    print(table(shown, report, sum(map(len, records.windows.values()))))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def show(records: Records) -> dict[str, Shown]:
    """What each public method has shown, by its path."""
    shown = {method.path: Shown() for method in public_methods()}
    for answer in records.answers():
        if answer.by_real_server and answer.path in shown:
            shown[answer.path].served |= answer.code == "OK"
    for window, answers in records.tests():
        public = [answer for answer in answers if answer.path in shown]
        if window.test.startswith((NEAR, RANDOM)):
            _count_fuzz(shown, window, public)
        else:
            _count_test(shown, window, public)
    return shown


def figures(shown: dict[str, Shown]) -> dict[str, float]:
    """The figures of the report, by their names."""
    served = [each for each in shown.values() if each.served]
    fuzzed = sum((each.fuzzed for each in served), Counter())
    return {
        "calls": len(shown),
        "calls_served": len(served),
        "served_tested_ok": sum(each.read_back for each in served),
        "served_tested_bad": sum(each.refused for each in served),
        "fuzz_messages_per_call": min((each.fuzzed.total() for each in served), default=0),
        "fuzz_near_valid_percent": round(min((each.near_percent for each in served), default=0.0), 1),
        "fuzz_past_validation_percent": round(
            _percent(fuzzed.total() - fuzzed["INVALID_ARGUMENT"], fuzzed.total()), 1
        ),
        "fuzz_internal": sum(fuzzed[code] for code in DEFECTS),
    }


def counted(records: Records) -> dict[str, float]:
    """What tests counted themselves, in the order of `COUNTED`."""
    windows = (window for lane in records.windows.values() for window in lane)
    found = {name: value for window in windows for name, value in window.figures.items()}
    return {name: float(found[name]) for name in COUNTED if name in found}


def table(shown: dict[str, Shown], report: dict[str, float], tests: int) -> str:
    """For people."""
    lines = [f"Records of {tests} tests", ""]
    for method in public_methods():
        each = shown[method.path]
        if each.served and (lacks := _lacking(each)):
            lines.append(f"{method.short:44}{', '.join(lacks)}")
    not_served = [method for method in public_methods() if not shown[method.path].served]
    lines += ["", "Not served: " + (", ".join(map(_short, not_served)) or "none"), ""]
    return "\n".join(lines + [f"{name:32}{value:>10g}" for name, value in report.items()])


def _count_fuzz(shown: dict[str, Shown], window: Window, answers: Sequence[Answer]) -> None:
    of_method = window.test.partition("[")[2].rstrip("]")
    near = window.test.startswith(NEAR)
    for answer in answers:
        service, _, name = answer.path[1:].partition("/")
        if answer.module.startswith(ENTRY) and of_method == f"{service.rpartition('.')[2]}.{name}":
            counts = shown[answer.path].near if near else shown[answer.path].random
            counts[answer.code] += 1


def _count_test(shown: dict[str, Shown], window: Window, answers: Sequence[Answer]) -> None:
    for answer in answers:
        if answer.by_real_server:
            shown[answer.path].refused |= answer.code in REFUSALS and window.passed
            shown[answer.path].read_back |= (
                answer.code == "OK" and window.passed and answer.path in window.read_back
            )


def _lacking(shown: Shown) -> list[str]:
    lacks = []
    if not shown.read_back:
        lacks.append("no effect read back")
    if not shown.refused:
        lacks.append("never refused")
    if shown.fuzzed.total() < 200:
        lacks.append(f"fuzzed {shown.fuzzed.total()} times")
    if defects := sum(shown.fuzzed[code] for code in DEFECTS):
        lacks.append(f"{defects} internal errors")
    return lacks


def _short(method: ApiMethod) -> str:
    return method.short


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
