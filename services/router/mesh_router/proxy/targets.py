"""Finding whoever serves a call: now, after waiting, or another one after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from mesh_core.errors import NotOwner, Unavailable
from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.view import Owner

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send a call. `epoch` is the owner's; 0 for what nobody owns."""

    name: str
    address: str
    epoch: int = 0


class Finder(Protocol):
    """Finds the targets of one call."""

    def now(self) -> Target | None:
        """The target, without waiting."""

    async def wait(self, deadline: float) -> Target:
        """The target, as soon as there is one; raises `Unavailable` at `deadline` of the loop's clock."""

    async def after(self, failed: Target, patience: float) -> None:
        """Return when another attempt is worth it, at the latest after `patience` seconds."""

    def unavailable(self, target: Target | None) -> Unavailable:
        """What to tell the caller when no attempt came through."""


class Ownership(Protocol):
    """What the proxy needs of `mesh_core.ownership.view.view.OwnerView`."""

    def owner(self, shard: int) -> Owner | None: ...

    def nodes(self) -> list[NodeInfo]: ...

    @property
    def changed(self) -> asyncio.Event: ...

    def wait_for(self, shard: int, deadline: float) -> Awaitable[Owner]: ...


class Directory(Protocol):
    """What the proxy needs of `mesh_core.etcd.discovery.ServiceDirectory`: the live instances of one kind."""

    def services(self) -> list[ServiceInfo]: ...

    @property
    def changed(self) -> asyncio.Event: ...


class OwnerFinder:
    """Finds the owner of one shard."""

    __slots__ = ("_shard", "_view")

    def __init__(self, view: Ownership, shard: int) -> None:
        self._view = view
        self._shard = shard

    def now(self) -> Target | None:
        owner = self._view.owner(self._shard)
        return None if owner is None else Target(owner.node_id, owner.address, owner.epoch)

    async def wait(self, deadline: float) -> Target:
        owner = await self._view.wait_for(self._shard, deadline)
        return Target(owner.node_id, owner.address, owner.epoch)

    async def after(self, failed: Target, patience: float) -> None:
        await _until_changed(self, self._view, failed, patience)

    def unavailable(self, target: Target | None) -> Unavailable:
        return NotOwner() if target is None else NotOwner(target.name, target.epoch)


class NodeFinder:
    """Finds any session-node that serves, another one each time."""

    __slots__ = ("_turns", "_view")

    def __init__(self, view: Ownership, turns: Turns) -> None:
        self._view = view
        self._turns = turns

    def now(self) -> Target | None:
        serving = [node for node in self._view.nodes() if node.state is NodeState.ACTIVE]
        return self._turns.choose("node", [Target(node.id, node.address) for node in serving])

    async def wait(self, deadline: float) -> Target:
        return await _wait_for_any(self, self._view, deadline)

    async def after(self, failed: Target, patience: float) -> None:
        self._turns.failed(failed.address)
        if len(self._view.nodes()) < 2:
            await _until_changed(self, self._view, failed, patience)

    def unavailable(self, target: Target | None) -> Unavailable:
        return _no_instance("session-node")


class InstanceFinder:
    """Finds a live instance of one kind of service, another one each time."""

    __slots__ = ("_directory", "_kind", "_turns")

    def __init__(self, directory: Directory, turns: Turns, kind: str) -> None:
        self._directory = directory
        self._turns = turns
        self._kind = kind

    def now(self) -> Target | None:
        live = self._directory.services()
        return self._turns.choose(self._kind, [Target(service.id, service.address) for service in live])

    async def wait(self, deadline: float) -> Target:
        return await _wait_for_any(self, self._directory, deadline)

    async def after(self, failed: Target, patience: float) -> None:
        self._turns.failed(failed.address)
        if len(self._directory.services()) < 2:
            await _until_changed(self, self._directory, failed, patience)

    def unavailable(self, target: Target | None) -> Unavailable:
        return _no_instance(self._kind)


class Turns:
    """Round robin over the targets of each kind; one that failed is left out while there are others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, int] = {}
        self._avoid: dict[str, float] = {}

    def choose(self, kind: str, targets: list[Target]) -> Target | None:
        """The one whose turn it is; None when there is none."""
        if self._avoid:
            now = self._clock()
            self._avoid = {address: until for address, until in self._avoid.items() if until > now}
            targets = [target for target in targets if target.address not in self._avoid] or targets
        if not targets:
            return None
        turn = self._next.get(kind, 0)
        self._next[kind] = turn + 1
        return targets[turn % len(targets)]

    def failed(self, address: str) -> None:
        """Leave it out for `_AVOIDED` seconds."""
        self._avoid[address] = self._clock() + _AVOIDED


class _Changing(Protocol):
    @property
    def changed(self) -> asyncio.Event: ...


async def _until_changed(finder: Finder, view: _Changing, failed: Target, patience: float) -> None:
    try:
        async with asyncio.timeout(patience):
            while True:
                changed = view.changed
                target = finder.now()
                if target is not None and target != failed:
                    return
                await changed.wait()
    except TimeoutError:
        return


async def _wait_for_any(finder: Finder, view: _Changing, deadline: float) -> Target:
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                changed = view.changed
                target = finder.now()
                if target is not None:
                    return target
                await changed.wait()
    except TimeoutError:
        raise finder.unavailable(None) from None


def _no_instance(kind: str) -> Unavailable:
    return Unavailable(f"no live {kind} instance", "NO_INSTANCE", metadata={"service": kind}, retry_after=0.5)


_AVOIDED = 2.0
