"""WatchFleet: what has changed since the frame before. All watchers share one picture of the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass

from mesh_core.ids import SHARDS
from mesh_core.ownership.view import Owner, OwnerView
from mesh_router.fleet.messages import node_message, shard_message
from mesh_router.fleet.monitor import FleetMonitor
from mesh_router.fleet.occupancy import Occupancy
from sessionmesh.v1 import fleet_pb2

FRAME_SECONDS = 0.2
"""Least time between two frames."""
LOOK_SECONDS = 1.0
"""Accounts and alarms are looked at so often while neither nodes nor owners change."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The fleet at one moment. `shards` has the owner and the wished-for node of each."""

    nodes: dict[str, fleet_pb2.Node]
    shards: tuple[tuple[Owner | None, str | None], ...]
    alarms: list[fleet_pb2.Alarm]
    table_revision: int
    unowned: int
    accounts: dict[int, int]

    def since(self, before: Picture | None) -> fleet_pb2.WatchFleetResponse | None:
        """The frame that leads from `before` (None: from nothing) to this; None when nothing differs."""
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


class FleetFeed:
    """Takes pictures while somebody watches; `run` must run.

    A watcher keeps the picture that it sent last, whatever happens until it can send again: a slow one
    misses steps in between, never the outcome, and costs one picture.
    """

    def __init__(self, view: OwnerView, occupancy: Occupancy, monitor: FleetMonitor) -> None:
        self._view = view
        self._occupancy = occupancy
        self._monitor = monitor
        self._watchers = 0
        self._watched = asyncio.Event()
        self._latest: Picture | None = None
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._watched.wait()
            changed = self._view.changed
            self._publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await changed.wait()
            await asyncio.sleep(FRAME_SECONDS)

    async def follow(self) -> AsyncGenerator[fleet_pb2.WatchFleetResponse, None]:
        """The frames for one watcher, for ever."""
        if self._watchers == 0:
            self._latest = self._take()
        self._watchers += 1
        self._watched.set()
        sent = None
        try:
            while True:
                news, picture = self._news, self._latest
                if picture is not None and (frame := picture.since(sent)) is not None:
                    yield frame
                    sent = picture
                await news.wait()
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                self._watched.clear()

    def _publish(self) -> None:
        self._latest = self._take()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _take(self) -> Picture:
        view, accounts = self._view, dict(self._occupancy.by_shard)
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
