"""What the parent processes may import: they run without site-packages, one beside every service."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mesh_parent
from mesh_parent import launcher

# The launcher is no parent: what it starts takes its place.
MODULES = sorted(set(Path(mesh_parent.__file__).parent.glob("*.py")) - {Path(launcher.__file__)})
TOO_LARGE = {"asyncio", "collections", "dataclasses", "http", "logging", "subprocess", "typing", "urllib"}
ONLY_WHERE_NEEDED = {"ctypes", "ssl"}


def imported(statements: list[ast.stmt]) -> Iterator[str]:
    """The packages that the statements import, but not those for a type checker alone."""
    for statement in statements:
        match statement:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                pass
            case ast.Import(names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(str(module)):
                yield module.partition(".")[0]
            case _:
                yield from imported([one for one in ast.walk(statement) if isinstance(one, ast.stmt)][1:])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.name))
def test_a_parent_imports_a_little_of_the_standard_library_and_nothing_else(module: Path) -> None:
    tree = ast.parse(module.read_text())
    packages = set(imported(tree.body))
    assert packages <= sys.stdlib_module_names | {"mesh_parent"}
    assert not packages & TOO_LARGE
    at_once = {
        name
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for name in imported([statement])
    }
    assert not at_once & ONLY_WHERE_NEEDED
