"""Room in the object store: promised to a file before its first byte, and given back unless it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.tasks import Supervisor
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.rows import NewFile

logger = structlog.get_logger(__name__)


class Room:
    """What one file may write. Its keys count against the quota, and are deleted unless a media row comes to
    refer to them.
    """

    def __init__(
        self, objects: ObjectRepository, tenant: UUID, new_key: Callable[[UUID], str], lifetime: timedelta
    ) -> None:
        self.written = False
        """Whether anything may have been written: then the bytes have to be deleted, too."""
        self._keys: list[str] = []
        self.used: frozenset[str] = frozenset()
        """Keys that media rows speak for."""
        self.size = 0
        """Bytes that it has room for."""
        self._objects = objects
        self.tenant = tenant
        self._new_key = new_key
        self._lifetime = lifetime

    @property
    def unused(self) -> list[str]:
        """Keys that no media row speaks for."""
        return [key for key in self._keys if key not in self.used]

    def key(self, number: int) -> str:
        """The key of that number, from 0; new ones have no room yet."""
        while len(self._keys) <= number:
            self._keys.append(self._new_key(self.tenant))
        return self._keys[number]

    def use(self, file: NewFile) -> None:
        """Media rows speak for the file's objects now."""
        self.used |= {one.key for one in file.objects if one.written}

    async def take(self, size: int, account: UUID | None = None) -> None:
        """Takes room for `size` bytes more, by one more key. Raises `NotFound` for an unknown tenant or
        account, and `ResourceExhausted` QUOTA_EXCEEDED.
        """
        # Known before it is asked for: what was asked for while the call was cancelled may be there.
        key = self.key(len(self._keys))
        await self._objects.reserve(self.tenant, account, key, size, self._lifetime)
        self.size += size

    async def settle(self, sizes: Mapping[str, int]) -> None:
        """Has the room be what is needed now that the sizes are known, by keys of which some may be new.
        Raises `ResourceExhausted` QUOTA_EXCEEDED where more is needed than there was.
        """
        if (more := sum(sizes.values()) - self.size) > 0:
            await self.take(more)
        await self._objects.settle(self.tenant, sizes, self._lifetime)


class Rooms:
    """Gives room to files, and takes back what was not used, also from calls that are cancelled."""

    def __init__(
        self,
        objects: ObjectRepository,
        new_key: Callable[[UUID], str],
        supervisor: Supervisor,
        lifetime: timedelta,
    ) -> None:
        """`new_key` makes keys of a tenant's objects. A file may take as long as `lifetime` to come; then its
        room goes by itself.
        """
        self._objects = objects
        self._new_key = new_key
        self._supervisor = supervisor
        self._lifetime = lifetime

    @asynccontextmanager
    async def room(self, tenant: UUID, promised: int = 0) -> AsyncIterator[Room]:
        """Room for one file. When the block ends, what was not used is given back. So many bytes are
        `promised` to it already.
        """
        room = Room(self._objects, tenant, self._new_key, self._lifetime)
        room.size = promised
        try:
            yield room
        finally:
            if room.unused:
                # A task of its own: a handler may be cancelled once more while it waits here.
                await asyncio.wait([self._supervisor.start("give back room", self._give_back(room))])

    async def _give_back(self, room: Room) -> None:
        for key in room.unused:
            try:
                await self._objects.give_back(key, written=room.written and not room.used)
            except UNAVAILABLE as error:  # then it goes with its lifetime
                logger.warning(
                    "the room of a failed upload is not given back yet", key=key, problem=repr(error)
                )
