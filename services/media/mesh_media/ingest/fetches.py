"""Files that are fetched from web addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from asyncpg.pgproto.pgproto import UUID

from mesh_media.ingest.announcements import name_type
from mesh_media.ingest.intake import takes_long
from mesh_media.ingest.later import BACKOFF, Later, announcement_of, with_fault
from mesh_media.ingest.room import Rooms
from mesh_media.ingest.web import NotFetched, Web
from mesh_media.processing.file_types import hinted_type
from mesh_media.processing.spool import SpoolFolder, TooLarge, spool
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import WorkRow
from sessionmesh.v1 import media_pb2


class Fetches:
    """Fetches files. The headers of requests are kept here only, until their files are there."""

    def __init__(
        self,
        media: MediaRepository,
        rooms: Rooms,
        web: Web,
        later: Later,
        process: Callable[[], None],
        *,
        max_bytes: int,
        folder: SpoolFolder,
    ) -> None:
        """`process` is told of files that are there, and to be processed."""
        self._media = media
        self._rooms = rooms
        self._web = web
        self._later = later
        self._process = process
        self._max_bytes = max_bytes
        self._folder = folder
        self._headers: dict[UUID, Mapping[str, str]] = {}

    def remember(self, media: UUID, headers: Mapping[str, str]) -> None:
        """The headers of the request for a media."""
        self._headers[media] = headers

    async def fetch(self, row: WorkRow) -> None:
        """Fetches the file of a media. Whatever comes of it is its state; it raises nothing."""
        headers = self._headers.get(row.media, {})
        if row.with_headers and not headers:  # they were lost with the process that had them
            await self._later.fail(row, media_pb2.MEDIA_FAILURE_UNREACHABLE)
            return
        while (again := await self._tried(row, headers)) is not None:
            if not row.with_headers:
                await self._later.postpone(again)
                return
            # Nobody else has them, so it waits here; the claim is renewed meanwhile.
            await asyncio.sleep(BACKOFF.after(row.attempts))
            row = replace(again, attempts=row.attempts + 1)
        self._headers.pop(row.media, None)

    async def _tried(self, row: WorkRow, headers: Mapping[str, str]) -> WorkRow | None:
        """What is to be tried again; None when it came to an end."""
        try:
            await self._fetch(row, headers)
        except NotFetched as error:
            if not error.final and (again := with_fault(row)) is not None:
                return again
            await self._later.fail(row, error.failure)
        except TooLarge:
            await self._later.fail(row, media_pb2.MEDIA_FAILURE_TOO_LARGE)
        except Exception as error:  # a media that is PENDING for ever helps nobody
            return await self._later.settle(row, error)
        return None

    async def _fetch(self, row: WorkRow, headers: Mapping[str, str]) -> None:
        media = await self._media.get(row.media)
        options = media_pb2.StorageOptions.FromString(row.options)
        async with self._rooms.room(row.tenant) as room, AsyncExitStack() as answer:
            found = await answer.enter_async_context(self._web.open(row.url, headers))
            await room.take(found.size or 0)
            async with spool(found.pieces, self._max_bytes, self._folder) as file:
                await answer.aclose()
                if found.size is None:
                    await room.take(file.size)
                if file.size == 0 or (options.sha256 and options.sha256 != file.sha256):
                    raise NotFetched(media_pb2.MEDIA_FAILURE_CORRUPT, final=True)
                options.file_name = options.file_name or found.name
                options.mime_type = options.mime_type or hinted_type(found.mime_type, file.head)
                name_type(options, file.head)
                announcement = announcement_of(media, options)
                if mime_type := takes_long(announcement, file):
                    await self._later.process_later(room, announcement, media, mime_type, file)
                    self._process()
                else:
                    await self._later.finish(room, announcement, media, file)
