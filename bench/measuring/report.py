"""What a benchmark answers, and its two forms: a table for people, JSON for comparing."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Measured:
    """A part of a benchmark: figures by name, and sentences about how they were measured."""

    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_more(self, other: Measured) -> Measured:
        """Both."""
        return Measured({**self.figures, **other.figures}, (*self.notes, *other.notes))


@dataclass(frozen=True, slots=True)
class Report:
    """`figures` by name. `processes` has CPU seconds and PSS in kB of each process that took part, for
    people; `notes` are sentences about how it was measured."""

    name: str
    figures: dict[str, float]
    processes: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """For people."""
        width = max(map(len, [*self.figures, *self.processes]))
        lines = [f"{self.name}  ({machine()}, commit {commit()})", ""]
        lines += [f"{name:{width}}  {value:>14,.2f}" for name, value in self.figures.items()]
        if self.processes:
            lines += ["", f"{'process':{width}}  {'CPU seconds':>14}  {'PSS kB':>14}"]
            lines += [
                f"{name:{width}}  {cpu:>14,.2f}  {pss:>14,.0f}" for name, (cpu, pss) in self.processes.items()
            ]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def json(self) -> bytes:
        """For comparing: {"name", "commit", "machine", "figures"}."""
        content = {
            "name": self.name,
            "commit": commit(),
            "machine": machine(),
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
        }
        return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def commit() -> str:
    """The commit measured, marked when files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Enough to tell whether two reports can be compared."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{len(os.sched_getaffinity(0))} x {model}, Python {platform.python_version()}"
