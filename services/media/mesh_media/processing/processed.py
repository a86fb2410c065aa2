"""What processing makes of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mesh_core.errors import InvalidField
from sessionmesh.v1 import media_pb2


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small JPEG of a file, at most 320 pixels wide and high."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ProcessedFile:
    """The bytes to store, and what is known of them.

    `source` is a file only until the block that processed it ends; it may be the file that came.
    `unprocessed` says why the bytes are those that came; UNSPECIFIED: they are not. Width and height are in
    pixels, upright; None where unknown, like `duration_ms`. `waveform`: 64 levels of 0 to 100 of a voice
    note, else empty. `preview`: JPEG of at most 4 KiB, empty where there is no `thumbnail`.
    """

    source: Path | bytes
    mime_type: str
    size: int
    sha256: bytes
    unprocessed: media_pb2.UnprocessedReason.ValueType
    width: int | None = None
    height: int | None = None
    animated: bool = False
    duration_ms: int | None = None
    waveform: bytes = b""
    thumbnail: Thumbnail | None = None
    preview: bytes = b""


class Refused(InvalidField):
    """A file that a caller may not store; `failure` is what a media that is FAILED for it says."""

    def __init__(self, field: str, description: str, failure: media_pb2.MediaFailure.ValueType) -> None:
        super().__init__(field, description)
        self.failure = failure
