"""Processing of media that were accepted before they were ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import structlog

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.errors import DataLoss, InvalidField, NotFound, ResourceExhausted, Unavailable
from mesh_core.events import Notifier
from mesh_media.ingest.announcements import Announcement
from mesh_media.ingest.intake import Intake
from mesh_media.ingest.metrics import count_failure
from mesh_media.ingest.room import Room, Rooms
from mesh_media.processing.processed import Refused
from mesh_media.processing.spool import SpooledFile, SpoolFolder, spool
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.references import ObjectGone
from mesh_media.repository.rows import MediaRow, WorkRow
from mesh_media.repository.work_repository import WorkRepository
from mesh_media.stores.object_store import ObjectStore
from mesh_media.stores.obstore_objects import damaged
from sessionmesh.v1 import media_pb2

logger = structlog.get_logger(__name__)

MAX_ATTEMPTS = 3
"""How often a file that makes the service itself fail is tried."""


class Later:
    """Ends what was accepted: has media be READY, or FAILED for a reason, and tells of it."""

    def __init__(
        self,
        media: MediaRepository,
        work: WorkRepository,
        rooms: Rooms,
        intake: Intake,
        store: ObjectStore,
        notifier: Notifier,
        folder: SpoolFolder,
    ) -> None:
        """Files that are processed are in temporary ones in `folder`."""
        self._media = media
        self._work = work
        self._rooms = rooms
        self._intake = intake
        self._store = store
        self._notifier = notifier
        self._folder = folder

    async def process(self, row: WorkRow) -> None:
        """Processes the stored bytes of a media. Whatever comes of it is its state; it raises nothing."""
        try:
            media = await self._media.get(row.media)
            options = media_pb2.StorageOptions.FromString(row.options)
            # What it becomes takes the place of what is stored of it, unless both are kept.
            promised = 0 if options.keep_original else media.size
            async with (
                self._rooms.room(row.tenant, promised) as room,
                spool(self._bytes_of(media), media.size, self._folder) as file,
            ):
                await self.finish(room, announcement_of(media, options), media, file)
        except DataLoss:
            await self.fail(row, media_pb2.MEDIA_FAILURE_OBJECT_LOST)
        except Exception as error:  # a media that is PENDING for ever helps nobody
            if (again := await self.settle(row, error)) is not None:
                await self.postpone(again)

    async def process_later(
        self, room: Room, announcement: Announcement, media: MediaRow, mime_type: str, file: SpooledFile
    ) -> None:
        """Stores the file of that type of a PENDING media as it came, to be processed like an upload that is
        not awaited.
        """
        came = (file.size, file.sha256, announcement.options.file_name)
        options = announcement.options.SerializeToString()
        stored = await self._intake.stored_as_it_came(room, announcement, mime_type, file)
        new = stored.file
        try:
            row = await self._work.process_later(media.id, new, came, options)
        except ObjectGone:
            new = await self._intake.written(room, stored)
            row = await self._work.process_later(media.id, new, came, options)
        if row is not None:
            room.use(new)

    async def finish(
        self, room: Room, announcement: Announcement, media: MediaRow, file: SpooledFile
    ) -> None:
        """Has a PENDING media be READY with what its file is processed to."""
        came = (file.size, file.sha256, announcement.options.file_name)
        async with self._intake.stored(room, announcement, file) as stored:
            new = stored.file
            try:
                row = await self._work.finish(media.id, new, came)
            except ObjectGone:
                new = await self._intake.written(room, stored)
                row = await self._work.finish(media.id, new, came)
        if row is not None:
            room.use(new)
            self._notifier.wake()

    async def fail(self, row: WorkRow, failure: media_pb2.MediaFailure.ValueType) -> None:
        """Has a media be FAILED."""
        try:
            if await self._work.fail(row.media, failure) is not None:
                count_failure(failure)
                self._notifier.wake()
        except UNAVAILABLE as error:  # it is claimed again when the claim has ended
            logger.warning("a failed media is not told of yet", error=repr(error))

    async def settle(self, row: WorkRow, error: Exception) -> WorkRow | None:
        """Has a media whose work ended with an error be FAILED for it; or returns the work, which is to be
        done again: however often where a server was away, which is no fault of the file's.
        """
        if isinstance(error, NotFound):  # it was deleted meanwhile
            return None
        if isinstance(error, Refused):
            await self.fail(row, error.failure)
        elif isinstance(error, InvalidField):
            await self.fail(row, media_pb2.MEDIA_FAILURE_CORRUPT)
        elif isinstance(error, ResourceExhausted) and error.reason == "QUOTA_EXCEEDED":
            await self.fail(row, media_pb2.MEDIA_FAILURE_QUOTA)
        elif isinstance(error, (Unavailable, ResourceExhausted, *UNAVAILABLE)):
            logger.warning("media work is to be done again", media=str(row.media), error=repr(error))
            return row
        elif (again := with_fault(row)) is not None:
            logger.error("media work failed", media=str(row.media), exc_info=error)
            return again
        else:
            logger.error("media work failed for good", media=str(row.media), exc_info=error)
            await self.fail(row, media_pb2.MEDIA_FAILURE_NOT_CONVERTIBLE)
        return None

    async def postpone(self, row: WorkRow) -> None:
        """Has work be done again, later each time."""
        try:
            await self._work.postpone(row, timedelta(seconds=BACKOFF.after(row.attempts)))
        except UNAVAILABLE as error:  # then when the claim has ended
            logger.warning("media work is not postponed", error=repr(error))

    async def _bytes_of(self, media: MediaRow) -> AsyncIterator[bytes]:
        """Raises `DataLoss` where the object is gone, and `Unavailable` where it moved meanwhile."""
        if not media.key:  # it was found to be lost
            raise damaged()
        try:
            async for chunk in self._store.get(media.key, 0, media.size):
                yield chunk
        except FileNotFoundError:  # here it is the store's, and no temporary file's
            if (await self._media.get(media.id)).key != media.key:
                raise Unavailable("the file moved", "BACKEND_UNAVAILABLE", retry_after=1.0) from None
            raise damaged() from None


def with_fault(row: WorkRow) -> WorkRow | None:
    """The work with one fault more, to be done again; None where that is one too many."""
    faults = row.faults + 1
    return replace(row, faults=faults) if faults < MAX_ATTEMPTS else None


def announcement_of(media: MediaRow, options: media_pb2.StorageOptions) -> Announcement:
    """What was announced of a media that is PENDING."""
    return Announcement(
        media.tenant,
        media.account,
        media_pb2.MediaOrigin.ValueType(media.origin),
        options,
        media.declared_mime_type,
        None,
    )


BACKOFF = Backoff(2.0, 600.0)
