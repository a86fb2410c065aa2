"""What the service asks of a worker process, and what it answers."""

from __future__ import annotations

import msgspec

from mesh_media.processing.levels import Level


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A file to process. `path` is read; what is made is written into `folder`, which is empty."""

    path: str
    folder: str
    size: int
    mime_type: str
    purpose: int
    """A `MediaPurpose`."""
    level: Level | None
    """None: nothing is compressed but what the purpose needs."""
    foreign: bool
    """Whether it is a file of the network, of which nothing is made that is larger, or lacks what came."""
    max_pixels: int
    cpu_seconds: int
    memory_bytes: int
    """Of address space, for what the job adds."""
    niceness: int


class Small(msgspec.Struct, frozen=True):
    """A small JPEG of the file."""

    data: bytes
    width: int
    height: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What became of the file. `output` is what was made, empty when the file stays as it came, which
    `unprocessed`, an `UnprocessedReason`, has the reason of.
    """

    mime_type: str
    unprocessed: int = 0
    output: str = ""
    size: int = 0
    sha256: bytes = b""
    width: int | None = None
    height: int | None = None
    animated: bool = False
    duration_ms: int | None = None
    waveform: bytes = b""
    thumbnail: Small | None = None
    preview: bytes = b""


class Unfit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The file can't be processed. Files of the network are kept, with the reason `unprocessed`; callers are
    told the `detail`, and `failure` is the `MediaFailure`.
    """

    unprocessed: int
    failure: int
    detail: str


Answer = Outcome | Unfit
