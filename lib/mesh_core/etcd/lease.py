"""A lease that is kept alive, and taken anew with its keys when it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from mesh_core.etcd.client import Etcd
from mesh_core.etcd.errors import EtcdUnavailable, LeaseLost
from mesh_core.etcd.member import LeaseBeat, boottime

logger = structlog.get_logger(__name__)


class KeptLease:
    """Keeps a lease of `ttl` seconds and its keys: when it was lost takes another one, with the same keys.

    `publish(lease)` writes the keys under a lease; it may be called again at any time. `run` is to be
    supervised; it ends only by cancellation.
    """

    def __init__(self, etcd: Etcd, ttl: int, publish: Callable[[int], Awaitable[None]]) -> None:
        self._etcd = etcd
        self._ttl = ttl
        self._publish = publish
        self._beat: LeaseBeat | None = None

    async def start(self) -> None:
        """Takes a lease and publishes under it. Raises `EtcdUnavailable`; `run` then tries again."""
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
                    logger.warning("etcd lease expired while etcd was unavailable", reason=error.message)
                    self._beat = None

    async def stop(self) -> None:
        """Revokes the lease: its keys vanish at once, or with the TTL when etcd is unavailable."""
        beat, self._beat = self._beat, None
        if beat is not None:
            try:
                await self._etcd.revoke(beat.id)
            except EtcdUnavailable as error:
                logger.warning("etcd lease not revoked", reason=error.message)
