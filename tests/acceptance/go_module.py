"""Tests in Go, beside what they test: each is a test here as well, and those of a module run together."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.builds import BUILD_SECONDS, ROOT, run
from tests.support.tools import missing_tool, require_on_path

BUILDER = ROOT / "deploy" / "tools" / "build-go"
LIKE_THE_PROGRAM = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
"""As the builder builds the programs: what they and their tests need is compiled once."""
_TEST = re.compile(r"^func (Test\w+)\(t \*testing\.T\)", re.MULTILINE)


@dataclass(slots=True)
class Ended:
    """How a test ended: `pass`, `fail`, `skip`, or not at all; and what it printed."""

    outcome: str = "not run"
    output: list[str] = field(default_factory=list)


class GoModule:
    """The Go module in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tests(self) -> list[str]:
        """The names of all its tests."""
        files = self._folder.rglob("*_test.go")
        return sorted(name for file in files for name in _TEST.findall(file.read_text()))

    def check(self) -> None:
        """It is formatted, and `go vet` finds nothing."""
        assert run(["gofmt", "-l", "."], self._folder) == ""
        run(["go", "vet", "./..."], self._folder, LIKE_THE_PROGRAM)

    def run(self, tests: Collection[str], environment: Mapping[str, str]) -> Mapping[str, Ended]:
        """Run these tests. What did not change since they ran last is not run again."""
        only = [] if set(tests) == set(self.tests()) else ["-run", f"^({'|'.join(tests)})$"]
        done = subprocess.run(
            ["go", "test", "-json", *only, "./..."],
            cwd=self._folder,
            env={**os.environ, **LIKE_THE_PROGRAM, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        found: defaultdict[str, Ended] = defaultdict(lambda: Ended(output=[done.stdout[-2000:], done.stderr]))
        for line in done.stdout.splitlines():
            event = json.loads(line)
            name, _, _ = event.get("Test", "").partition("/")
            if event["Action"] == "run" and name == event["Test"]:
                found[name] = Ended()
            elif name and event["Action"] == "output":
                found[name].output.append(event["Output"])
            elif name == event.get("Test") and event["Action"] in ("pass", "fail", "skip"):
                found[name].outcome = event["Action"]
        return found


def chosen(request: pytest.FixtureRequest) -> list[str]:
    """The Go tests that are asked for, of the file whose fixture asks."""
    return [
        item.callspec.params["test"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]


def ready(for_what: str) -> None:
    """Go is here, and the stubs that both modules are built on."""
    require_on_path("go", for_what)
    run([str(BUILDER), "stubs"], ROOT)


def must_pass(ended: Ended) -> None:
    """A test that was skipped for want of a program is skipped here."""
    if ended.outcome == "skip":
        missing_tool("".join(ended.output))
    assert ended.outcome == "pass", "".join(ended.output)
