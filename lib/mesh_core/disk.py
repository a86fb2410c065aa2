"""A full disk is an error of its own, wherever files are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mesh_core.errors import Unavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LEAST_BYTES = 16 * 1024 * 1024
"""With less a disk counts as full: Postgres asks for as much at a time."""


class DiskFull(Unavailable):
    """UNAVAILABLE: there is no room left on the disk of `folder`, which callers are told in words of ours."""

    def __init__(self, folder: Path | str, problem: str = "") -> None:
        message = f"the disk of {folder} is full" + (f": {problem}" if problem else "")
        super().__init__(message, "BACKEND_UNAVAILABLE", retry_after=10.0)


@contextmanager
def naming_full_disk(folder: Path | str) -> Iterator[None]:
    """Raise `DiskFull` for an `OSError` that says so; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(folder) from error
        raise


def is_full(folder: Path) -> bool:
    """Whether the disk of an existing folder has less than LEAST_BYTES left for us, or room for no file."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < LEAST_BYTES or (found.f_files > 0 and found.f_favail == 0)


class LinesWhileThereIsRoom:
    """A text stream that drops what its file has no room for: a log must not end who writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return
