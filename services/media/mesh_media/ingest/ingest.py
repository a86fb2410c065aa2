"""The parts that take files in, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.events import Notifier
from mesh_core.tasks import Supervisor
from mesh_media.ingest.fetches import Fetches
from mesh_media.ingest.intake import Intake
from mesh_media.ingest.lane import Lane
from mesh_media.ingest.later import Later
from mesh_media.ingest.policies import Policies
from mesh_media.ingest.room import Rooms
from mesh_media.ingest.web import Web
from mesh_media.processing.processor import Processor
from mesh_media.processing.spool import SpoolFolder
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.rows import FETCH, PROCESS
from mesh_media.repository.work_repository import WorkRepository
from mesh_media.stores.object_store import ObjectStore

TENANTS_AT_ONCE = 4
"""Tenants whose files wait for their processing at hand: one's films hold up no pictures of another one."""


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """What files may be, and how many are worked on.

    A file has at most `max_bytes`, and as long as `lifetime` to come; meanwhile it is in `folder`. What it no
    longer needs is deleted after `grace`. This process works on `workers` of a tenant and fetches `fetches`
    at once, beside the uploads that are awaited.
    """

    max_bytes: int
    lifetime: timedelta
    grace: timedelta
    folder: SpoolFolder
    workers: int
    fetches: int


class Ingest:
    """Takes files in, and ends what was accepted before it was ready."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        new_key: Callable[[UUID], str],
        processor: Processor,
        web: Web,
        supervisor: Supervisor,
        limits: IngestLimits,
    ) -> None:
        """`new_key` makes keys of a tenant's objects."""
        self.limits = limits
        self.web = web
        self.media = MediaRepository(database)
        self.policies = Policies(database)
        self.rooms = Rooms(ObjectRepository(database), new_key, supervisor, limits.lifetime)
        self.intake = Intake(self.media, store, processor)
        self._supervisor = supervisor
        self._notifier = Notifier(database)
        work = WorkRepository(database, limits.grace)
        folder, rooms = limits.folder, self.rooms
        later = Later(self.media, work, rooms, self.intake, store, self._notifier, folder)
        self.processing = Lane(
            work,
            PROCESS,
            later.process,
            places=TENANTS_AT_ONCE * limits.workers,
            of_a_tenant=limits.workers,
        )
        self.fetches = Fetches(
            self.media,
            rooms,
            web,
            later,
            self.processing.wake,
            max_bytes=limits.max_bytes,
            folder=folder,
        )
        self.fetching = Lane(
            work,
            FETCH,
            self.fetches.fetch,
            places=limits.fetches,
            of_a_tenant=max(1, limits.fetches // 4),
        )

    def start(self) -> None:
        """Begins to do what was accepted, here and elsewhere."""
        self._supervisor.start("media events", self._notifier.run())
        self._supervisor.start("media processing", self.processing.run())
        self._supervisor.start("media fetching", self.fetching.run())
