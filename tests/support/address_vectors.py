"""The examples of docs/addresses.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

VECTORS_FILE = Path(__file__).parents[2] / "docs" / "addresses.json"


@dataclass(frozen=True, slots=True)
class AddressVector:
    """A text, and its canonical form and kind where it is an address; `why` is for people."""

    input: str
    canonical: str | None
    kind: str | None
    why: str

    def __str__(self) -> str:
        return ascii(self.input)[1:41] or "empty"


def address_vectors() -> list[AddressVector]:
    """All of them."""
    return [AddressVector(**each) for each in json.loads(VECTORS_FILE.read_text())]
