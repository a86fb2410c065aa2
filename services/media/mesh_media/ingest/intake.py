"""From a whole file in hand to the media row that speaks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method
from mesh_core.telemetry import tracing
from mesh_media.ingest.announcements import Announcement
from mesh_media.ingest.metrics import KNOWN_FILES, count_file
from mesh_media.ingest.room import Room
from mesh_media.processing.file_types import agreed_type
from mesh_media.processing.lane import Lane
from mesh_media.processing.processed import ProcessedFile
from mesh_media.processing.processor import Processor
from mesh_media.processing.spool import SpooledFile
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.references import ObjectGone
from mesh_media.repository.rows import PROCESS, MediaRow, NewFile, NewMedia, NewObject, NewWork
from mesh_media.stores.object_store import ObjectStore
from sessionmesh.v1 import media_pb2

LARGE_BYTES = 5 * 1024 * 1024
"""Larger objects are written in parts, each of which is in memory; smaller ones are there whole."""
LARGE_AT_ONCE = 1
"""Such objects that are written at once, which takes some 25 MB of memory for each; the others wait in their
temporary files, in turns over the tenants.
"""

Request = tuple[Method, str, bytes]
"""The method, the id and the digest of the request that a media is made for."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as it is stored, with the bytes of its objects, while they are at hand."""

    file: NewFile
    sources: Sequence[tuple[NewObject, Path | bytes]]


class Intake:
    """Processes files, writes their objects and adds their rows. What the tenant has already is not processed
    or written again.
    """

    def __init__(self, media: MediaRepository, store: ObjectStore, processor: Processor) -> None:
        self._media = media
        self._objects = store
        self._processor = processor
        self._large_writes = Lane("storing", LARGE_AT_ONCE)

    async def take(
        self, room: Room, announcement: Announcement, file: SpooledFile, request: Request
    ) -> MediaRow:
        """The media of a file, READY. Raises `Refused`, `InvalidField`, `AlreadyExists` REQUEST_ID_REUSED,
        and `ResourceExhausted` QUOTA_EXCEEDED.
        """
        new = announcement.media(file.size, file.sha256)
        row = await self._known(announcement, new, request)
        if row is None:
            async with self.stored(room, announcement, file) as stored:
                row = await self._add(room, new, stored, request)
        count_file(file.size, row)
        return row

    async def take_later(
        self, room: Room, announcement: Announcement, mime_type: str, file: SpooledFile, request: Request
    ) -> MediaRow:
        """The media of a file of that type, PENDING: its bytes are stored as they came, and processed later.
        READY where the tenant has them already. Raises as `take` does.
        """
        new = announcement.media(file.size, file.sha256)
        row = await self._known(announcement, new, request)
        if row is None:
            stored = await self.stored_as_it_came(room, announcement, mime_type, file)
            row = await self._add(room, new, stored, request, NewWork(PROCESS, _options_of(announcement)))
        count_file(file.size, row)
        return row

    async def stored_as_it_came(
        self, room: Room, announcement: Announcement, mime_type: str, file: SpooledFile
    ) -> Stored:
        """Writes a file of that type before it is processed, unless the tenant has its bytes."""
        unchanged = ProcessedFile(file.path, mime_type, file.size, file.sha256, _NOT_YET)
        return await self._store(room, announcement, unchanged, file)

    @asynccontextmanager
    async def stored(
        self, room: Room, announcement: Announcement, file: SpooledFile
    ) -> AsyncIterator[Stored]:
        """Processes a file, and writes what the tenant does not have. The bytes are at hand until the block
        ends.
        """
        processing = self._processor.process(
            announcement.tenant,
            file,
            announcement.options,
            announcement.options.compression,
            foreign=announcement.foreign,
        )
        async with processing as processed:
            yield await self._store(room, announcement, processed, file)

    async def written(self, room: Room, stored: Stored) -> NewFile:
        """The file, once what the tenant had just now and no longer has is written after all."""
        await room.settle({one.key: one.size for one, _ in stored.sources})
        await self._write(room.tenant, stored.sources)
        return stored.file.as_written()

    async def _known(self, announcement: Announcement, new: NewMedia, request: Request) -> MediaRow | None:
        row = await self._media.add_known(new, request, announcement.options.keep_original)
        if row is not None:
            KNOWN_FILES.inc()
        return row

    async def _add(
        self, room: Room, new: NewMedia, stored: Stored, request: Request, work: NewWork | None = None
    ) -> MediaRow:
        file = stored.file
        try:
            row = await self._media.add(new, file, request, work)
        except ObjectGone:
            file = await self.written(room, stored)
            row = await self._media.add(new, file, request, work)
        if row.id == new.id:  # else it is what the same request made before
            room.use(file)
        return row

    async def _store(
        self, room: Room, announcement: Announcement, processed: ProcessedFile, file: SpooledFile
    ) -> Stored:
        planned = _planned(processed, file, keep=announcement.options.keep_original)
        have = await self._media.objects_with(announcement.tenant, [part.sha256 for part in planned])
        objects = {
            part.name: NewObject(room.key(number), part.sha256, part.size, written=part.sha256 not in have)
            for number, part in enumerate(planned)
        }
        sources = [(objects[part.name], part.source) for part in planned]
        new = [one for one in sources if one[0].written]
        await room.settle({one.key: one.size for one, _ in new})
        room.written = True
        with tracing.span("mesh.media.store", attributes={"mesh.media.size": processed.size}):
            await self._write(room.tenant, new)
        return Stored(_new_file(processed, objects), sources)

    async def _write(self, tenant: UUID, objects: Sequence[tuple[NewObject, Path | bytes]]) -> None:
        for one, source in objects:
            if one.size <= LARGE_BYTES:
                await self._objects.put(one.key, source)
                continue
            async with self._large_writes.place(tenant):
                await self._objects.put(one.key, source)


@dataclass(frozen=True, slots=True)
class _Part:
    """An object that a file needs, and what it is of `NewFile`."""

    name: str
    sha256: bytes
    size: int
    source: Path | bytes


def _planned(processed: ProcessedFile, file: SpooledFile, *, keep: bool) -> list[_Part]:
    planned = [_Part("stored", processed.sha256, processed.size, processed.source)]
    if processed.thumbnail is not None:
        data = processed.thumbnail.data
        planned.append(_Part("thumbnail", sha256(data).digest(), len(data), data))
    if keep and processed.sha256 != file.sha256:
        planned.append(_Part("original", file.sha256, file.size, file.path))
    return planned


def _new_file(processed: ProcessedFile, objects: Mapping[str, NewObject]) -> NewFile:
    thumbnail = processed.thumbnail
    return NewFile(
        mime_type=processed.mime_type,
        stored=objects["stored"],
        unprocessed=processed.unprocessed,
        width=processed.width,
        height=processed.height,
        duration_ms=processed.duration_ms,
        animated=processed.animated,
        waveform=processed.waveform,
        preview=processed.preview,
        thumbnail=objects.get("thumbnail"),
        thumbnail_width=None if thumbnail is None else thumbnail.width,
        thumbnail_height=None if thumbnail is None else thumbnail.height,
        original=objects.get("original"),
    )


def takes_long(announcement: Announcement, file: SpooledFile) -> str:
    """The type of a file whose processing takes so long that it is better not awaited; "" for others. Raises
    `Refused`.
    """
    mime_type = agreed_type(announcement.options.mime_type, file.head)
    as_it_is = announcement.options.purpose == media_pb2.MEDIA_PURPOSE_DOCUMENT
    return mime_type if mime_type.startswith(_LONG) and not as_it_is else ""


def _options_of(announcement: Announcement) -> bytes:
    return announcement.options.SerializeToString()


_LONG = ("image/", "video/", "audio/")
_NOT_YET = media_pb2.UNPROCESSED_REASON_UNSPECIFIED
