"""A service in the test's own event loop, started by its own `main`; where a service listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.process.service import Stop
from mesh_core.settings import ClusterSettings, EtcdSettings
from tests.support.eventually import eventually


class ServiceSettings(Protocol):
    """What is needed of a service's settings to find it."""

    @property
    def etcd(self) -> EtcdSettings: ...

    @property
    def cluster(self) -> ClusterSettings: ...


Settings = TypeVar("Settings", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class RunningService:
    """`address` is host:port; `stop.ask` drains the service."""

    address: str
    stop: Stop


@asynccontextmanager
async def running(
    main: Callable[[Settings, Stop], Awaitable[None]], settings: Settings, kind: str
) -> AsyncIterator[RunningService]:
    """Runs `main` until the block ends, then drains it. Nothing else of its kind may be in its cluster."""
    stop = Stop()
    task = asyncio.ensure_future(main(settings, stop))
    try:
        address = await registered_address(settings.etcd, settings.cluster.name, kind, lambda: _check(task))
        yield RunningService(address, stop)
    finally:
        stop.ask("the test is over")
        await task
    assert not stop.failed, stop.reason


async def registered_address(
    etcd: EtcdSettings, cluster: str, kind: str, check: Callable[[], object] = lambda: None
) -> str:
    """Where the only service of `kind` in `cluster` listens, once it has registered.

    `check` is called meanwhile, and raises when the service has ended.
    """
    client = Etcd(etcd)

    async def address() -> str | None:
        check()
        entries = (await client.prefix(f"/{cluster}/services/{kind}/".encode())).kvs
        return msgspec.json.decode(entries[0].value, type=ServiceInfo).address if entries else None

    try:
        return await eventually(address, what=f"the registration of the {kind} service")
    finally:
        await client.close()


def _check(task: asyncio.Future[None]) -> None:
    if task.done():
        task.result()
        raise AssertionError("the service ended before it had registered")
