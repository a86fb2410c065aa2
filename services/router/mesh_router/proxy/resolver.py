"""Which endpoint serves a call: now, after waiting for one, or another one after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mesh_core.errors import NotOwner, Unavailable
from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.view import Owner
from mesh_core.signal import Signal

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A process that serves calls: its node or instance id, its `host:port`, and epoch (0 but for owners)."""

    name: str
    address: str
    epoch: int = 0


class Resolver(Protocol):
    """Resolves the endpoint of one call."""

    def current(self) -> Endpoint | None:
        """The endpoint to use now; None when none is known."""

    async def wait(self, deadline: float) -> Endpoint:
        """The endpoint, as soon as one is known. Raises `Unavailable` at `deadline`, of the loop's clock."""

    async def wait_for_another(self, failed: Endpoint, seconds: float) -> None:
        """Return when a retry may succeed because `failed` was replaced, after `seconds` at the latest."""

    def unavailable(self, endpoint: Endpoint | None) -> Unavailable:
        """The error for the caller when no attempt succeeded; `endpoint` is the last one tried."""


class ClusterView(Protocol):
    """What the proxy needs of `mesh_core.ownership.view.view.OwnerView`."""

    def owner(self, shard: int) -> Owner | None: ...

    def nodes(self) -> list[NodeInfo]: ...

    @property
    def changes(self) -> Signal: ...

    def wait_for(self, shard: int, deadline: float) -> Awaitable[Owner]: ...


class Directory(Protocol):
    """What the proxy needs of `mesh_core.etcd.discovery.ServiceDirectory`: the live instances of one kind."""

    def services(self) -> list[ServiceInfo]: ...

    @property
    def changes(self) -> Signal: ...


class OwnerResolver:
    """Resolves to the owner of one shard."""

    __slots__ = ("_shard", "_view")

    def __init__(self, view: ClusterView, shard: int) -> None:
        self._view = view
        self._shard = shard

    def current(self) -> Endpoint | None:
        owner = self._view.owner(self._shard)
        return None if owner is None else Endpoint(owner.node_id, owner.address, owner.epoch)

    async def wait(self, deadline: float) -> Endpoint:
        owner = await self._view.wait_for(self._shard, deadline)
        return Endpoint(owner.node_id, owner.address, owner.epoch)

    async def wait_for_another(self, failed: Endpoint, seconds: float) -> None:
        await _until_replaced(self, self._view.changes, failed, seconds)

    def unavailable(self, endpoint: Endpoint | None) -> Unavailable:
        return NotOwner() if endpoint is None else NotOwner(endpoint.name, endpoint.epoch)


class NodeResolver:
    """Resolves to any ACTIVE session-node, in turn."""

    __slots__ = ("_round_robin", "_view")

    def __init__(self, view: ClusterView, round_robin: RoundRobin) -> None:
        self._view = view
        self._round_robin = round_robin

    def current(self) -> Endpoint | None:
        serving = [node for node in self._view.nodes() if node.state is NodeState.ACTIVE]
        return self._round_robin.pick("node", [Endpoint(node.id, node.address) for node in serving])

    async def wait(self, deadline: float) -> Endpoint:
        return await _until_any(self, self._view.changes, deadline)

    async def wait_for_another(self, failed: Endpoint, seconds: float) -> None:
        self._round_robin.eject(failed.address)
        if len(self._view.nodes()) < 2:
            await _until_replaced(self, self._view.changes, failed, seconds)

    def unavailable(self, endpoint: Endpoint | None) -> Unavailable:
        return _no_instance("session-node")


class InstanceResolver:
    """Resolves to any live instance of one kind of service, in turn."""

    __slots__ = ("_directory", "_kind", "_round_robin")

    def __init__(self, directory: Directory, round_robin: RoundRobin, kind: str) -> None:
        self._directory = directory
        self._round_robin = round_robin
        self._kind = kind

    def current(self) -> Endpoint | None:
        live = self._directory.services()
        return self._round_robin.pick(self._kind, [Endpoint(service.id, service.address) for service in live])

    async def wait(self, deadline: float) -> Endpoint:
        return await _until_any(self, self._directory.changes, deadline)

    async def wait_for_another(self, failed: Endpoint, seconds: float) -> None:
        self._round_robin.eject(failed.address)
        if len(self._directory.services()) < 2:
            await _until_replaced(self, self._directory.changes, failed, seconds)

    def unavailable(self, endpoint: Endpoint | None) -> Unavailable:
        return _no_instance(self._kind)


class RoundRobin:
    """Takes turns over the endpoints of each kind. An ejected endpoint is left out while there are others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: dict[str, int] = {}
        self._ejected: dict[str, float] = {}

    def pick(self, kind: str, endpoints: list[Endpoint]) -> Endpoint | None:
        """The endpoint whose turn it is; None when there is none."""
        if self._ejected:
            now = self._clock()
            self._ejected = {address: until for address, until in self._ejected.items() if until > now}
            endpoints = [one for one in endpoints if one.address not in self._ejected] or endpoints
        if not endpoints:
            return None
        turn = self._next.get(kind, 0)
        self._next[kind] = turn + 1
        return endpoints[turn % len(endpoints)]

    def eject(self, address: str) -> None:
        """Leave an endpoint that failed out for `_EJECTED_SECONDS`."""
        self._ejected[address] = self._clock() + _EJECTED_SECONDS


async def _until_replaced(resolver: Resolver, changes: Signal, failed: Endpoint, seconds: float) -> None:
    def replacement() -> Endpoint | None:
        endpoint = resolver.current()
        return None if endpoint == failed else endpoint

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changes.wait_until(replacement)


async def _until_any(resolver: Resolver, changes: Signal, deadline: float) -> Endpoint:
    try:
        async with asyncio.timeout_at(deadline):
            return await changes.wait_until(resolver.current)
    except TimeoutError:
        raise resolver.unavailable(None) from None


def _no_instance(kind: str) -> Unavailable:
    return Unavailable(f"no live {kind} instance", "NO_INSTANCE", metadata={"service": kind}, retry_after=0.5)


_EJECTED_SECONDS = 2.0
