"""One guard, with the edit that takes it out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` stands exactly once in `path`; with `new` in its place one of `tests` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str
