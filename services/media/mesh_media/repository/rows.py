"""The rows of the media tables, and what an upload adds to them. Sizes are in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg.pgproto.pgproto import UUID


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A media row with its object: `key` and `size` are the object's, which equal files share."""

    id: UUID
    tenant: UUID
    mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    width: int
    height: int
    origin: int
    labels: dict[str, str]
    create_time: datetime
    expire_time: datetime | None
    key: str


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A media row to add, whose bytes are stored already as the object `key`. `keep_for` None: for ever."""

    id: UUID
    tenant: UUID
    key: str
    mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    width: int
    height: int
    origin: int
    labels: dict[str, str]
    keep_for: timedelta | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant stores. `bytes` counts a shared object once; `max_bytes` 0 means no quota."""

    media: int
    bytes: int
    max_bytes: int
    shared_bytes: int
    compressed_bytes: int
