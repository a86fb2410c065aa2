"""The log of a process, which a test waits on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Log:
    """A log file. Each look reads on from where the one before ended; a line counts once it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._read_to = 0

    def lines(self) -> list[str]:
        """All lines until now, without their ends; none when there is no file yet."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                whole, _, _ = (data := file.read()).rpartition(b"\n")
            if whole or data.startswith(b"\n"):
                self._lines += whole.decode(errors="replace").split("\n")
                self._read_to += len(whole) + 1
        return self._lines

    def text(self) -> str:
        """All of it, for a failure."""
        return self.path.read_text(errors="replace")

    def says(self, words: str) -> bool:
        """Whether some line has these words."""
        return any(words in line for line in self.lines())

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of JSON that log this event."""
        parsed = [json.loads(line) for line in self.lines() if line.startswith("{") and name in line]
        return [line for line in parsed if line["event"] == name]
