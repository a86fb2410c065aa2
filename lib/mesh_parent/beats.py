"""The beats of a worker, through a pipe: one that froze keeps its connections, and would not answer them.

A worker that never beats is left alone.
"""

from __future__ import annotations

import os

VARIABLE = "MESH_WORKER_BEATS"
"""The environment variable that tells a worker the descriptor to write to."""
EVERY_SECONDS = 1.0
FROZEN_SECONDS = 15.0
"""Seconds without a beat after which a worker is taken for frozen."""


def beat() -> None:
    """Tell the parent that this process still runs; without such a parent nothing happens."""
    descriptor = os.environ.get(VARIABLE)
    if descriptor:
        try:
            os.write(int(descriptor), b".")
        except OSError:
            return  # it is full: the parent is frozen itself


class Beats:
    """The parent's side, for one start of one worker."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)
        self._last = 0.0

    def handed_over(self) -> None:
        """The worker has its end now."""
        os.close(self.writing)

    def frozen(self, now: float) -> bool:
        """Whether it began to beat, and has not for too long."""
        try:
            while os.read(self.reading, 4096):
                self._last = now
        except BlockingIOError:
            pass
        return self._last > 0 and now - self._last > FROZEN_SECONDS

    def forgive(self, seconds: float) -> None:
        """The parent did not look for so long: the machine slept, or all were stopped."""
        if self._last:
            self._last += seconds

    def close(self) -> None:
        """The worker has ended."""
        os.close(self.reading)
