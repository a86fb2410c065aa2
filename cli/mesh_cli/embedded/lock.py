"""Locks on state directories, which the kernel releases when the last process that holds one ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

MAX_HOLDER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took a lock: the process, and the local time, ISO 8601 in whole seconds."""

    pid: int
    since: str


class FileLock:
    """An exclusive flock on a file that says who has it. A child that inherits `descriptor` has it too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def take(self) -> bool:
        """Take the lock if nobody has it; returns whether it is ours now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk takes no note, and the lock is ours all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(Holder(os.getpid(), now))).encode(), 0)
        return True

    def holder(self) -> Holder | None:
        """Who has the lock that `take` did not get; None when it does not say.

        A release that did not write it down may hold the lock, or the holder may be about to.
        """
        try:
            with self._path.open("rb") as file:
                return Holder(**json.loads(file.read(MAX_HOLDER_BYTES)))
        except (OSError, ValueError, TypeError):
            return None

    def release(self) -> None:
        """Close our descriptor; the lock is free once no child has it either."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1
