"""Locks on state directories that the kernel drops when the last process that holds them ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FileLock:
    """An exclusive flock on a file. A child that inherits `descriptor` holds it too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def take(self) -> bool:
        """Take the lock if nobody has it; whether it is ours now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Close our descriptor; the lock is free once no child has it either."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
