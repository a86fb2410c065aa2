"""What the last test run recorded: every answer of a server, and when which test ran."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

OF_KEYS = frozenset({"SCOPE_MISSING", "CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "TENANT_SUSPENDED"})
"""Reasons for which a key is refused by whoever a call comes to first."""
RELAYS = ("mesh_router.proxy.unary", "mesh_router.proxy.streaming")
"""Modules that hand on what another server answered, which is on record there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `time` is a monotonic instant in ns; `reason` is "-" without one."""

    time: int
    path: str
    code: str
    reason: str
    module: str

    @property
    def by_real_server(self) -> bool:
        """Whether a service of ours gave it: neither a test's stand-in, nor what generated code answers by
        itself, nor who only relays. A relay asks nobody about a key that is no good for the method.
        """
        return (
            self.module.startswith("mesh_")
            and not self.module.endswith("_pb2_grpc")
            and (self.module not in RELAYS or self.reason in OF_KEYS)
        )


@dataclass(frozen=True, slots=True)
class Window:
    """One test: when it began in its lane, whether it passed, the methods whose effect it reads back, and
    figures that it counted.
    """

    test: str
    begin: int
    passed: bool
    read_back: tuple[str, ...]
    figures: Mapping[str, int] = field(default_factory=dict)


class Records:
    """The records of a folder."""

    def __init__(self, folder: Path) -> None:
        self._answers: dict[str, list[Answer]] = defaultdict(list)
        self.windows: dict[str, list[Window]] = defaultdict(list)
        for place in sorted(folder.glob("*.answers")):
            lane = place.name.partition("-")[0]
            self._answers[lane] += answers_in(place)
        for place in sorted(folder.glob("*.tests")):
            self.windows[place.stem] += [_window(line) for line in place.read_text().splitlines()]
        for answers in self._answers.values():
            answers.sort(key=lambda answer: answer.time)

    def answers(self) -> Iterator[Answer]:
        """All, of all lanes."""
        for answers in self._answers.values():
            yield from answers

    def tests(self) -> Iterator[tuple[Window, list[Answer]]]:
        """Every test, and what was answered in its lane until the next one began: a refusal goes on record
        just after its caller has it.
        """
        for lane, windows in self.windows.items():
            answers = self._answers[lane]
            begins = [
                bisect_left(answers, window.begin, key=lambda answer: answer.time) for window in windows
            ]
            for window, first, last in zip(windows, begins, [*begins[1:], len(answers)], strict=True):
                yield window, answers[first:last]


def answers_in(place: Path) -> list[Answer]:
    """What one process has answered, in order."""
    lines = [line.split(" ") for line in place.read_text().splitlines()]
    return [Answer(int(time), *words) for time, *words in lines]


def _window(line: str) -> Window:
    fields = json.loads(line)
    return Window(**fields | {"read_back": tuple(fields["read_back"])})
