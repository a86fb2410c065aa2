"""Finding services other than session-nodes. Each has a leased key `/<cluster>/services/<kind>/<id>`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import structlog

from mesh_core.etcd import Etcd, EtcdUnavailable, KeptLease, Snapshot, follow
from mesh_core.signal import Signal
from mesh_core.tasks import Supervisor
from mesh_wire.etcd import kv_pb2

logger = structlog.get_logger(__name__)

LEASE_SECONDS = 7


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One running instance. `address` is host:port; `tls` tells that it takes TLS connections only; `version`
    is its release, which early ones do not tell.
    """

    id: str
    address: str
    tls: bool = False
    version: str = ""
    metrics: str = ""
    """host:port of its metrics page, which early releases do not tell."""


class Registration:
    """An instance's key, which is kept while the process lives."""

    def __init__(self, lease: KeptLease, task: asyncio.Task[None]) -> None:
        self._lease = lease
        self._task = task

    async def stop(self) -> None:
        """Deletes the key at once."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._lease.stop()


async def register(
    etcd: Etcd,
    cluster: str,
    kind: str,
    service: ServiceInfo,
    *,
    supervisor: Supervisor,
    ttl: int = LEASE_SECONDS,
) -> Registration:
    """Registers an instance of `kind` (`media`, `webhook`, `router`), and again whenever its lease was lost.

    When etcd is unavailable it returns without, and registers as soon as it can: the instance serves those
    who know its address.
    """
    key, value = _prefix(cluster, kind) + service.id.encode(), msgspec.json.encode(service)

    async def publish(lease: int) -> None:
        await etcd.put(key, value, lease)

    kept = KeptLease(etcd, ttl, publish)
    try:
        await kept.start()
    except EtcdUnavailable as error:
        logger.warning("not registered yet", kind=kind, reason=error.message)
    return Registration(kept, supervisor.start(f"registration-{kind}", kept.run()))


class ServiceDirectory:
    """The live instances of one kind; those that were last seen while etcd is unavailable."""

    def __init__(self, etcd: Etcd, cluster: str, kind: str, *, supervisor: Supervisor) -> None:
        self._etcd = etcd
        self._kind = kind
        self._prefix = _prefix(cluster, kind)
        self._supervisor = supervisor
        self._services: dict[bytes, ServiceInfo] = {}
        self._revision = 0
        self._ready = asyncio.Event()
        self.changes = Signal()
        """Notified whenever `services` may answer differently."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the first snapshot has been read."""
        self._task = self._supervisor.start(f"directory-{self._kind}", self._run())
        await self._ready.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def services(self) -> list[ServiceInfo]:
        """The instances, by id."""
        return sorted(self._services.values(), key=lambda service: service.id)

    async def _run(self) -> None:
        async with aclosing(follow(self._etcd, self._prefix)) as changes:
            async for change in changes:
                if isinstance(change, Snapshot):
                    self._replace(change)
                else:
                    for event in change.events:
                        self._apply(event)
                self._revision = change.revision
                self._ready.set()
                self.changes.notify()

    def _replace(self, snapshot: Snapshot) -> None:
        before, self._services = self._services, {}
        for kv in snapshot.entries.values():
            self._add(kv)
        if snapshot.revision < self._revision:
            # etcd was emptied or restored. Instances that live register again within a TTL: kept until then.
            forgotten = {key: info for key, info in before.items() if key not in self._services}
            self._services |= forgotten
            asyncio.get_running_loop().call_later(LEASE_SECONDS, self._forget, forgotten)

    def _forget(self, services: dict[bytes, ServiceInfo]) -> None:
        for key, info in services.items():
            if self._services.get(key) is info:
                del self._services[key]
        self.changes.notify()

    def _apply(self, event: kv_pb2.Event) -> None:
        if event.type == kv_pb2.Event.DELETE:
            self._services.pop(event.kv.key, None)
        else:
            self._add(event.kv)

    def _add(self, kv: kv_pb2.KeyValue) -> None:
        """One that says what no instance would write is as good as none."""
        try:
            self._services[kv.key] = _decoder.decode(kv.value)
        except msgspec.MsgspecError as error:
            self._services.pop(kv.key, None)
            logger.error("an instance's key cannot be read, ignored", key=repr(kv.key), error=repr(error))  # noqa: TRY400 - the key tells


def _prefix(cluster: str, kind: str) -> bytes:
    return f"/{cluster}/services/{kind}/".encode()


_decoder = msgspec.json.Decoder(ServiceInfo)
