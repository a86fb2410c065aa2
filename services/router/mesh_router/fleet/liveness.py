"""Whether the view of the fleet is up to date: a watch that broke is as silent as one without changes."""

from __future__ import annotations

import asyncio
from time import monotonic

import structlog

from mesh_core.errors import MeshError
from mesh_core.etcd import Etcd
from mesh_core.ownership.keys import ClusterKeys
from mesh_core.ownership.view import OwnerView

logger = structlog.get_logger(__name__)

CHECK_SECONDS = 1.0


class EtcdLiveness:
    """Reads the assignment table's revision once a second, and checks that the watch has brought it too."""

    def __init__(self, etcd: Etcd, cluster: str, view: OwnerView) -> None:
        self._etcd = etcd
        self._key = ClusterKeys(cluster).assignment
        self._view = view
        self._heard = monotonic()
        self._answered = True
        self._written = 0
        """The table's revision at the last check."""

    async def run(self) -> None:
        """Checks again and again, until cancelled."""
        while True:
            try:
                await self._check()
            except Exception:  # the next check may do better
                self._answered = False
                logger.exception("whether the view is up to date was not checked")
            await asyncio.sleep(CHECK_SECONDS)

    def silence(self) -> float:
        """Seconds since the view was last known to be up to date."""
        return monotonic() - self._heard

    @property
    def fresh(self) -> bool:
        """Whether the last check was answered and the view was up to date."""
        return self._answered and self.silence() < 2 * CHECK_SECONDS

    async def _check(self) -> None:
        began, shown = monotonic(), self._view.table_revision
        try:
            found = await self._etcd.get(self._key)
        except MeshError:
            self._answered = False
            return
        # The view may not have received what this check finds, but must have what the last one found.
        self._answered = self._written <= shown
        self._written = found.mod_revision if found is not None else 0
        if self._answered:
            self._heard = began
