"""How many unknown keys an address may try: each one costs a look-up, which is everybody's time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mesh_core.errors import ResourceExhausted
from mesh_core.metrics import counter

MAX_UNKNOWN = 100
"""Keys of the right form that are unknown, from one address in a window."""
WINDOW_SECONDS = 60.0
MAX_ADDRESSES = 10_000
REFUSED = counter(
    "mesh_auth_guesses_refused_total",
    "Keys not looked up, as their address tried too many.",
    answers="Does somebody try keys?",
)


@dataclass(slots=True)
class _Window:
    end: float
    unknown: int = 0


class Guesses:
    """Counts unknown keys by source address; keys that were found before are not its business."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def check(self, source: str) -> None:
        """Raise `ResourceExhausted` RATE_LIMITED when the address has tried too many."""
        window = self._windows.get(source)
        if window is None or window.unknown < MAX_UNKNOWN:
            return
        left = window.end - time.monotonic()
        if left > 0:
            REFUSED.inc()
            raise ResourceExhausted(
                "too many unknown keys came from this address",
                "RATE_LIMITED",
                quota=f"address:{source}",
                retry_after=left,
            )

    def begin(self, source: str) -> None:
        """The address tries a key. An empty `source` is no address, and not counted."""
        if not source:
            return
        now = time.monotonic()
        window = self._windows.get(source)
        if window is None or window.end <= now:
            self._windows.pop(source, None)
            if len(self._windows) >= MAX_ADDRESSES:
                del self._windows[next(iter(self._windows))]  # the oldest
            window = self._windows[source] = _Window(now + WINDOW_SECONDS)
        window.unknown += 1

    def was_none(self, source: str) -> None:
        """The key that was tried exists, or nobody knows."""
        window = self._windows.get(source)
        if window is not None and window.unknown:
            window.unknown -= 1
