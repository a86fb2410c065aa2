"""The parsers that docs/examples has for other programs agree with the mesh on every vector."""

from __future__ import annotations

import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.builds import ROOT, built_once, run
from tests.acceptance.printed import SHORT_LIVED_JAVA
from tests.support.address_vectors import address_vectors
from tests.support.tools import require_on_path

EXAMPLES = ROOT / "docs" / "examples"
PROGRAMS = Path(__file__).parent / "address_programs"
TSX = "tsx@4.23.15"
NO_ADDRESS = "-"
SECONDS = 60.0


def python_program() -> list[str]:
    folder = _built("python", "addresses.py", "check.py")
    return [sys.executable, "-W", "error", str(folder / "check.py")]


def go_program() -> list[str]:
    require_on_path("go", "docs/examples/addresses.go")

    def build(folder: Path) -> None:
        package = folder / "addresses"
        package.mkdir()
        (folder / "addresses.go").rename(package / "addresses.go")
        run(["go", "mod", "init", "sessionmesh.dev/acceptance/address_programs"], folder)
        run(["go", "build", "-o", "check", "."], folder)

    return [str(_built("go", "addresses.go", "main.go", build) / "check")]


def java_program() -> list[str]:
    require_on_path("javac", "docs/examples/Addresses.java")

    def build(folder: Path) -> None:
        run(["javac", "-Xlint:all", "-Werror", "Addresses.java", "CheckAddresses.java"], folder)

    folder = _built("java", "Addresses.java", "CheckAddresses.java", build)
    return ["java", *SHORT_LIVED_JAVA.split(), "-cp", str(folder), "CheckAddresses"]


def typescript_program() -> list[str]:
    require_on_path("npm", "docs/examples/addresses.ts")

    def build(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        run(["npm", "install", "--save-exact", "--silent", "--no-audit", "--no-fund", TSX], folder)

    folder = _built(f"typescript-{TSX}", "addresses.ts", "check.ts", build)
    return [str(folder / "node_modules" / ".bin" / "tsx"), str(folder / "check.ts")]


PROGRAM_OF = {
    "Python": python_program,
    "Go": go_program,
    "Java": java_program,
    "TypeScript": typescript_program,
}


@pytest.mark.parametrize("language", PROGRAM_OF)
def test_a_parser_agrees_with_every_vector(language: str) -> None:
    command = PROGRAM_OF[language]()
    vectors = address_vectors()
    answers = _answers(command, [vector.input for vector in vectors])
    expected = [vector.canonical or NO_ADDRESS for vector in vectors]
    pairs = zip(vectors, expected, answers, strict=True)
    assert [(vector, answer) for vector, due, answer in pairs if answer != due] == []


def _built(language: str, parser: str, program: str, build: Callable[[Path], None] = lambda _: None) -> Path:
    """A folder with the parser and the program that calls it, built."""
    sources = [EXAMPLES / parser, PROGRAMS / program]

    def copy_and_build(folder: Path) -> None:
        for source in sources:
            shutil.copy(source, folder)
        build(folder)

    return built_once(f"addresses-{language}", sources, copy_and_build)


def _answers(command: list[str], texts: list[str]) -> list[str]:
    lines = "".join(f"{b64encode(text.encode()).decode()}\n" for text in texts)
    ended = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
