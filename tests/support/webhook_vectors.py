"""The examples of docs/webhooks.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

VECTORS_FILE = Path(__file__).parents[2] / "docs" / "webhooks.json"


@dataclass(frozen=True, slots=True)
class WebhookVector:
    """A request, its headers None where they are missing, and whether it is valid at `now`; `why` is for
    people.
    """

    why: str
    valid: bool
    secret: str
    id: str | None
    timestamp: str | None
    signature: str | None
    body: str
    now: int

    @property
    def headers(self) -> dict[str, str]:
        """Those that it has."""
        named = {"id": self.id, "timestamp": self.timestamp, "signature": self.signature}
        return {f"webhook-{name}": value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        return self.why


def webhook_vectors() -> list[WebhookVector]:
    """All of them."""
    return [WebhookVector(**each) for each in json.loads(VECTORS_FILE.read_text())]
