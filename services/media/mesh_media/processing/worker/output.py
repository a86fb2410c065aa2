"""What a job has made, in its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

NAME = "output"


def write(data: bytes) -> tuple[str, int, bytes]:
    """Store `data`; the name of the file, its size and sha256."""
    Path(NAME).write_bytes(data)
    return NAME, len(data), hashlib.sha256(data).digest()


def written(name: str = NAME) -> tuple[str, int, bytes]:
    """The name of a file that is there, its size and sha256."""
    with Path(name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        return name, file.tell(), digest
