"""A service's own `main` in the test's process: started, ready, and drained in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.process.service import Stop
from mesh_core.settings import EtcdSettings
from tests.support.eventually import eventually
from tests.support.servers import patient_etcd

Settings = TypeVar("Settings")
READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Running:
    """A service that serves at `address`; `stop` drains it, and `task` is its `main`."""

    address: str
    stop: Stop
    task: asyncio.Task[None]


@asynccontextmanager
async def running(
    kind: str, main: Callable[[Settings, Stop], Awaitable[None]], settings: Settings
) -> AsyncIterator[Running]:
    """One more instance of the service `kind` (such as "router"), once it has registered itself in etcd.

    Its address is the one that it registers, so that it may listen on port 0. Fails with the service's own
    error when that ends before, and when it does not end well.
    """
    parts: Any = settings
    etcd = patient_etcd(parts.etcd)
    registrations = f"/{parts.cluster.name}/services/{kind}/".encode()
    stop = Stop()
    try:
        earlier = {kv.key for kv in (await etcd.prefix(registrations)).kvs}
        task = asyncio.ensure_future(main(settings, stop))

        async def address() -> str | None:
            if task.done():
                await task
                raise AssertionError(f"{kind} has ended before it was ready")
            new = [kv.value for kv in (await etcd.prefix(registrations)).kvs if kv.key not in earlier]
            return str(msgspec.json.decode(new[0])["address"]) if new else None

        try:
            yield Running(await eventually(address, READY_SECONDS, f"a registered {kind}"), stop, task)
        finally:
            stop.ask("the test has ended")
            await task
        assert not stop.failed, stop.reason
    finally:
        await etcd.close()


async def registered_address(
    etcd: EtcdSettings, cluster: str, kind: str, check: Callable[[], object] = lambda: None
) -> str:
    """Where the only service of `kind` in `cluster` listens, once it has registered.

    `check` is called meanwhile, and raises when the service has ended.
    """
    client = patient_etcd(etcd)

    async def address() -> str | None:
        check()
        entries = (await client.prefix(f"/{cluster}/services/{kind}/".encode())).kvs
        return msgspec.json.decode(entries[0].value, type=ServiceInfo).address if entries else None

    try:
        return await eventually(address, what=f"the registration of the {kind} service")
    finally:
        await client.close()
