"""The rows of the media tables, and what an upload adds to them. Sizes are in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from asyncpg.pgproto.pgproto import UUID


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A media row with its object: `key` and `size` are the object's, which equal files share.

    `account` None: the tenant's. `declared_mime_type` is empty where it is `mime_type`.
    """

    id: UUID
    tenant: UUID
    account: UUID | None
    mime_type: str
    declared_mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    unprocessed: int
    width: int | None
    height: int | None
    animated: bool
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
    account: UUID | None
    key: str
    mime_type: str
    declared_mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    unprocessed: int
    width: int | None
    height: int | None
    animated: bool
    origin: int
    labels: dict[str, str]
    keep_for: timedelta | None


@dataclass(frozen=True, slots=True)
class MediaQuery:
    """Which media of a tenant to list; what is None, empty or 0 leaves none out. `accounts`: only theirs."""

    tenant: UUID
    accounts: Sequence[UUID] | None = None
    mime_type_prefix: str = ""
    origin: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    start: datetime | None = None
    end: datetime | None = None
    min_size: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant stores. `bytes` counts a shared object once; `max_bytes` None means no quota.

    `by_age` has files and their bytes by `MediaAge`.
    """

    media: int
    bytes: int
    reserved_bytes: int
    max_bytes: int | None
    shared_bytes: int
    compressed_bytes: int
    by_age: Mapping[int, tuple[int, int]]
