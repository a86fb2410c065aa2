"""The parsers that docs/examples has for other programs agree with the mesh on every vector."""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path

import pytest

from tests.acceptance.builds import run
from tests.acceptance.example_programs import answers, built_example, go_example, java_example
from tests.support.address_vectors import address_vectors
from tests.support.tools import require_on_path

PROGRAMS = Path(__file__).parent / "address_programs"
TSX = "tsx@4.23.15"
NO_ADDRESS = "-"


def python_program() -> list[str]:
    folder = built_example("addresses-python", "addresses.py", PROGRAMS / "check.py")
    return [sys.executable, "-W", "error", str(folder / "check.py")]


def go_program() -> list[str]:
    return go_example("addresses", PROGRAMS)


def java_program() -> list[str]:
    return java_example("Addresses", PROGRAMS / "CheckAddresses.java")


def typescript_program() -> list[str]:
    require_on_path("npm", "docs/examples/addresses.ts")

    def build(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        run(["npm", "install", "--save-exact", "--silent", "--no-audit", "--no-fund", TSX], folder)

    folder = built_example(f"addresses-typescript-{TSX}", "addresses.ts", PROGRAMS / "check.ts", build)
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
    said = answers(command, [b64encode(vector.input.encode()).decode() for vector in vectors])
    expected = [vector.canonical or NO_ADDRESS for vector in vectors]
    pairs = zip(vectors, expected, said, strict=True)
    assert [(vector, answer) for vector, due, answer in pairs if answer != due] == []
