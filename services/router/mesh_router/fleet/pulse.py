"""Whether the router still hears from etcd: a watch that has nothing to tell is as silent as a dead one."""

from __future__ import annotations

import asyncio
from time import monotonic

from mesh_core.errors import MeshError
from mesh_core.etcd import Etcd
from mesh_core.ownership.keys import Keys
from mesh_core.ownership.view import OwnerView

PULSE_SECONDS = 1.0


class Pulse:
    """Reads the assignment table's revision once a second, and compares what the watch has brought."""

    def __init__(self, etcd: Etcd, cluster: str, view: OwnerView) -> None:
        self._etcd = etcd
        self._key = Keys(cluster).assignment
        self._view = view
        self._heard = monotonic()
        self._answered = True
        self._written = 0
        """Revision of the table at the last reading."""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._feel()
            await asyncio.sleep(PULSE_SECONDS)

    def silence(self) -> float:
        """Seconds since the view was last known to be up to date."""
        return monotonic() - self._heard

    @property
    def fresh(self) -> bool:
        """The last reading was answered, and the view was not behind."""
        return self._answered and self.silence() < 2 * PULSE_SECONDS

    async def _feel(self) -> None:
        began, shown = monotonic(), self._view.table_revision
        try:
            found = await self._etcd.get(self._key)
        except MeshError:
            self._answered = False
            return
        # What this reading found may still be on its way to the view; what the last one found may not.
        self._answered = self._written <= shown
        self._written = found.mod_revision if found is not None else 0
        if self._answered:
            self._heard = began
