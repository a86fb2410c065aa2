"""The programs and commands that docs/stubs.md prints, language by language."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.builds import ROOT, run

PAGE = ROOT / "docs" / "stubs.md"
ADDRESS, KEY, ACCOUNT = "127.0.0.1:7600", "smk_...", "acc_..."
SHORT_LIVED_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Halves the CPU time of what runs for seconds, such as Maven."""


@dataclass(frozen=True, slots=True)
class Printed:
    """One language's section: files by path, what is run once, and what is run over each transport."""

    files: dict[str, str]
    preparations: list[str]
    calls: list[str]

    @property
    def text(self) -> str:
        return repr((sorted(self.files.items()), self.preparations))

    def prepare(self, folder: Path) -> None:
        """Lay out the project in an empty folder, beside the checkout as the page says, and build it."""
        for path, content in self.files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        put_checkout_beside(folder)
        for command in self.preparations:
            run(["bash", "-ec", command], folder, environment())


def printed(language: str) -> Printed:
    """The section of that title."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (body,) = (text for text in section if text.startswith(f"{language}\n"))
    files = dict(re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", body, re.MULTILINE | re.DOTALL))
    commands = re.findall(r"^```sh\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    assert files, f"{PAGE} prints no file for {language}"
    assert commands, f"{PAGE} prints no command for {language}"
    calls = [command for command in commands if ACCOUNT in command]
    return Printed(files, [command for command in commands if ACCOUNT not in command], calls)


def environment() -> dict[str, str]:
    """That of a shell in which the checkout's Python and `mesh` come first, and Java is brief."""
    return {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "JDK_JAVA_OPTIONS": SHORT_LIVED_JAVA}


def put_checkout_beside(folder: Path) -> None:
    (folder.parent / "sessionmesh").symlink_to(ROOT)
