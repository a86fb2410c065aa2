"""The rows of the media tables, and what is added to them. Sizes are in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from asyncpg.pgproto.pgproto import UUID

from sessionmesh.v1 import content_pb2, media_pb2


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that media share, of which the store has the bytes as `key`."""

    key: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to refer to: the tenant's that has these bytes already, or else the new one with `key`.

    `written`: the store has the bytes as `key`; else the tenant had an object with these bytes just now.
    """

    key: str
    sha256: bytes
    size: int
    written: bool = True


@dataclass(frozen=True, slots=True)
class MediaRow:
    """A media row with its objects. `key`, `size` and `sha256` are of the bytes, empty and 0 where it has
    none: it is being fetched, or lost.

    `account` None: the tenant's. `declared_mime_type` is empty where it is `mime_type`. `original` is there
    where the file is kept as it came, beside what it was made. `state`, `failure`, `unprocessed`, `purpose`,
    `compression`, `origin` and `categories` are numbers of their enums.
    """

    id: UUID
    tenant: UUID
    account: UUID | None
    state: int
    failure: int
    mime_type: str
    declared_mime_type: str
    size: int
    sha256: bytes
    original_size: int
    original_sha256: bytes
    file_name: str
    unprocessed: int
    purpose: int
    compression: int
    width: int | None
    height: int | None
    duration_ms: int | None
    animated: bool
    waveform: bytes
    preview: bytes
    thumbnail_width: int | None
    thumbnail_height: int | None
    origin: int
    labels: dict[str, str]
    create_time: datetime
    expire_time: datetime | None
    categories: Sequence[int]
    key: str
    thumbnail: StoredObject | None
    original: StoredObject | None

    @property
    def is_ready(self) -> bool:
        return self.state == content_pb2.MEDIA_STATE_READY

    @property
    def own_category(self) -> int:
        """Where nothing refers to it: as the SQL function `media_own_category` has it."""
        if self.origin == media_pb2.MEDIA_ORIGIN_NETWORK:
            return media_pb2.MEDIA_CATEGORY_RECEIVED
        return media_pb2.MEDIA_CATEGORY_DEFAULT


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is stored of a file, and what its processing found out."""

    mime_type: str
    stored: NewObject
    unprocessed: int = media_pb2.UNPROCESSED_REASON_UNSPECIFIED
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    animated: bool = False
    waveform: bytes = b""
    preview: bytes = b""
    thumbnail: NewObject | None = None
    thumbnail_width: int | None = None
    thumbnail_height: int | None = None
    original: NewObject | None = None

    @property
    def objects(self) -> list[NewObject]:
        """All of its objects."""
        return [one for one in (self.stored, self.thumbnail, self.original) if one is not None]

    def as_written(self) -> NewFile:
        """The same once all of its objects are written."""

        def written(one: NewObject | None) -> NewObject | None:
            return None if one is None else replace(one, written=True)

        return replace(
            self,
            stored=replace(self.stored, written=True),
            thumbnail=written(self.thumbnail),
            original=written(self.original),
        )


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A media row to add; `keep_for` None: by the rules of retention.

    `declared_mime_type` is what was announced, also where that is what it is; `original_sha256` None: nothing
    came yet.
    """

    id: UUID
    tenant: UUID
    account: UUID | None
    declared_mime_type: str
    original_size: int
    original_sha256: bytes | None
    file_name: str
    purpose: int
    compression: int
    keep_original: bool
    origin: int
    labels: dict[str, str]
    keep_for: timedelta | None


@dataclass(frozen=True, slots=True)
class NewWork:
    """What is still to be done to a media: its stored bytes are to be processed, or those of `url` fetched.

    `held_for`: nobody else may begin it so long, since the headers of the request to `url` are only here.
    """

    kind: int
    options: bytes
    url: str = ""
    with_headers: bool = False
    held_for: timedelta = timedelta()


PROCESS, FETCH = 1, 2
"""Kinds of work."""


@dataclass(frozen=True, slots=True)
class WorkRow:
    """Work that was claimed. `attempts` is how often it was begun before; `faults`, how often it failed then
    for a reason of its own, and not because a server was away.
    """

    media: UUID
    tenant: UUID
    kind: int
    options: bytes
    url: str
    with_headers: bool
    attempts: int
    faults: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch of deletions looked at, and how many files and bytes of it went."""

    seen: int
    deleted: int
    bytes: int
