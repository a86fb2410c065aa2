"""One guard, with the edit that takes it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parent.parent.parent
_MIGRATIONS = "lib/mesh_core/database/migrations/versions"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` stands exactly once in `path`; with `new` in its place one of `tests` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str


def latest(function: str) -> str:
    """The migration whose definition of an SQL function counts; a change of an earlier one is none."""
    named = [
        path
        for path in sorted((_ROOT / _MIGRATIONS).glob("*.sql"))
        if f"FUNCTION {function}(" in path.read_text()
    ]
    return f"{_MIGRATIONS}/{named[-1].name}"
