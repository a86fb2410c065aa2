"""Leases that say honestly how long they hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mesh_core.etcd.clock import boottime
from mesh_core.etcd.errors import EtcdUnavailable, LeaseLost

if TYPE_CHECKING:
    from mesh_core.etcd.client import Etcd

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseBeat:
    """etcd said at or after `sent` (boottime) that lease `id` lives for another `ttl` seconds."""

    id: int
    ttl: int
    sent: float

    @property
    def deadline(self) -> float:
        """The instant (boottime) until which etcd surely keeps the lease."""
        return self.sent + self.ttl


class KeptLease:
    """Keeps a lease and what hangs on it: after losing one it takes another and calls `publish` again.

    `publish(lease)` writes the keys. `run` is to be supervised; it ends only by cancellation.
    """

    def __init__(self, etcd: Etcd, ttl: int, publish: Callable[[int], Awaitable[None]]) -> None:
        self._etcd = etcd
        self._ttl = ttl
        self._publish = publish
        self._beat: LeaseBeat | None = None

    async def start(self) -> None:
        """Takes the first lease and publishes under it."""
        beat = await self._etcd.grant(self._ttl)
        await self._publish(beat.id)
        self._beat = beat

    async def run(self) -> None:
        pause = self._ttl / 4
        while True:
            await asyncio.sleep(pause if self._beat else min(pause, 1.0))
            try:
                if self._beat is None:
                    await self.start()
                else:
                    self._beat = await self._etcd.keep_alive(self._beat.id)
            except LeaseLost as error:
                logger.warning("etcd lease lost", lease=error.lease)
                self._beat = None
            except EtcdUnavailable as error:
                if self._beat is not None and boottime() > self._beat.deadline:
                    logger.warning("etcd lease ran out unseen", reason=error.message)
                    self._beat = None

    async def stop(self) -> None:
        """Revokes the lease: its keys vanish at once. When etcd is away they vanish with the TTL."""
        beat, self._beat = self._beat, None
        if beat is not None:
            try:
                await self._etcd.revoke(beat.id)
            except EtcdUnavailable as error:
                logger.warning("etcd lease not revoked", reason=error.message)
