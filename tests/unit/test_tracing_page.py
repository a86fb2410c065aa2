"""docs/tracing.md names every span and attribute that the code records, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"(mesh|rpc|http|messaging|error)(\.[a-z_]+)+")
BEFORE = "mesh.sidecar."
"""What such spans are called is told in docs/whatsapp.md."""
NO_TRACES = {"mesh.json"}


def test_the_page_names_what_is_recorded() -> None:
    page = (ROOT / "docs" / "tracing.md").read_text()
    told = {name for name in re.findall(r"`([a-z_.]+)`", page) if NAME.fullmatch(name)}
    assert told == recorded()


def recorded() -> set[str]:
    """Names of that form in the code of the parts."""
    files = [*ROOT.glob("services/*/mesh_*/**/*.py"), *ROOT.glob("lib/mesh_core/**/*.py")]
    assert len(files) > 100
    found = {name for file in files for name in names(file)}
    return found - NO_TRACES - {name for name in found if name.startswith(BEFORE)}


def names(file: Path) -> Iterator[str]:
    """The string literals that look like the name of a span or an attribute."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
            yield node.value
