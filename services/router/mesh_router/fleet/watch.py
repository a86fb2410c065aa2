"""WatchFleet: each frame tells what changed since the last. All watchers share one picture of the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from mesh_core.ids import SHARDS
from mesh_core.ownership.view import Owner, OwnerView
from mesh_core.signal import Signal
from mesh_router.fleet.admission import Admission
from mesh_router.fleet.monitor import FleetMonitor
from mesh_router.fleet.resources import node_message, shard_message
from sessionmesh.admin.v1 import fleet_pb2

logger = structlog.get_logger(__name__)

FRAME_SECONDS = 0.2
"""Least time between two frames."""
REFRESH_SECONDS = 1.0
"""Longest time between two pictures: counts and alarms change without nodes and owners changing."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment. `shards` has the owner and the assigned node of each shard."""

    nodes: dict[str, fleet_pb2.Node]
    shards: tuple[tuple[Owner | None, str | None], ...]
    alarms: list[fleet_pb2.Alarm]
    table_revision: int
    unowned: int
    accounts: dict[int, int]

    def since(self, before: Picture | None) -> fleet_pb2.WatchFleetResponse | None:
        """The frame for a watcher that has `before` (None: nothing yet); None when nothing differs."""
        frame = fleet_pb2.WatchFleetResponse(
            alarms=self.alarms, table_revision=self.table_revision, unowned=self.unowned
        )
        if before is None:
            frame.nodes.extend(self.nodes.values())
            return frame
        frame.nodes.extend(node for name, node in self.nodes.items() if node != before.nodes.get(name))
        frame.removed_node_ids.extend(before.nodes.keys() - self.nodes.keys())
        frame.shards.extend(self._moved(before))
        same = not (frame.nodes or frame.removed_node_ids or frame.shards)
        return None if same and self.alarms == before.alarms else frame

    def _moved(self, before: Picture) -> Iterable[fleet_pb2.ShardPlacement]:
        if self.shards == before.shards:
            return
        for shard, (now, then) in enumerate(zip(self.shards, before.shards, strict=True)):
            if now != then:
                owner, assigned = now
                node = self.nodes.get(owner.node_id) if owner else None
                incarnation = node.incarnation if node else ""
                yield shard_message(shard, owner, assigned, incarnation, self.accounts.get(shard, 0))


class FleetWatch:
    """Takes pictures while there are watchers; `run` must run.

    A watcher compares with the picture that it sent last, so a slow one skips steps but never misses the
    outcome, and costs the memory of one picture.
    """

    def __init__(self, view: OwnerView, admission: Admission, monitor: FleetMonitor) -> None:
        self._view = view
        self._admission = admission
        self._monitor = monitor
        self._watchers = 0
        self._watched = asyncio.Event()
        self._latest: Picture | None = None
        self._published = Signal()

    async def run(self) -> None:
        """Takes pictures, until cancelled."""
        while True:
            await self._watched.wait()
            version = self._view.changes.version
            try:
                self._latest = self._take()
                self._published.notify()
            except Exception:  # the next picture may do better
                logger.exception("the fleet's watchers were told nothing")
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._view.changes.wait(version)
            await asyncio.sleep(FRAME_SECONDS)

    async def follow(self) -> AsyncGenerator[fleet_pb2.WatchFleetResponse, None]:
        """The frames for one watcher, until it is closed."""
        if self._watchers == 0:
            self._latest = self._take()
        self._watchers += 1
        self._watched.set()
        sent = None
        try:
            while True:
                version, picture = self._published.version, self._latest
                if picture is not None and (frame := picture.since(sent)) is not None:
                    yield frame
                    sent = picture
                await self._published.wait(version)
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._watched.clear()

    def _take(self) -> Picture:
        view, accounts = self._view, dict(self._admission.by_shard)
        owners, placement = view.owners(), view.placement
        shards: dict[str, int] = {}
        held: dict[str, int] = {}
        for shard, owner in owners.items():
            shards[owner.node_id] = shards.get(owner.node_id, 0) + 1
            held[owner.node_id] = held.get(owner.node_id, 0) + accounts.get(shard, 0)
        return Picture(
            nodes={
                node.id: node_message(node, shards.get(node.id, 0), held.get(node.id, 0))
                for node in view.nodes()
            },
            shards=tuple((owners.get(shard), placement[shard]) for shard in range(SHARDS)),
            alarms=self._monitor.alarms,
            table_revision=view.table_revision,
            unowned=SHARDS - len(owners),
            accounts=accounts,
        )
