"""Takes out of logs what must not be in them, whoever put it there: secrets, and whole phone numbers.

Nothing should log them in the first place. This is for texts that are not ours, such as errors of libraries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from mesh_core.settings import HIDDEN

LEAST_LENGTH = 8
"""Shorter secrets are words of everyday, too, which logs cannot do without."""


class Redaction:
    """A structlog processor; `secrets` are those of this process. Keys of callers and endpoints are known by
    their form.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({one for one in secrets if len(one) >= LEAST_LENGTH}, key=len, reverse=True)
        self._hidden = re.compile("|".join([*map(re.escape, known), _NUMBER, _KEY]))

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {name: self._value(value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """`text` with secrets hidden, and without the middle of phone numbers."""
        return self._hidden.sub(_replacement, text)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self._value(name): self._value(each) for name, each in value.items()}
        if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
            return [self._value(each) for each in value]
        return self.text(repr(value))


def _replacement(found: re.Match[str]) -> str:
    number = found["number"]
    return f"{number[:3]}...{number[-2:]}" if number else HIDDEN


_NUMBER = (
    r"(?P<number>(?<![\w+])(?:\+|(?<=phone:))[0-9]{7,15}(?!\w)"
    r"|(?:%2[Bb]|(?<=phone%3A)|(?<=phone%3a))[0-9]{7,15}(?!\w)"  # in a URL
    r"|(?<!\w)[0-9]{7,15}(?=(?:[.:_][0-9]{1,5}){0,2}@))"  # behind it may stand which of somebody's devices
)
_KEY = r"\b(?:smk|smadmin|smmesh|whsec)_[\w+/=-]{16,}"
