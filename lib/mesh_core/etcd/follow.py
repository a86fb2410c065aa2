"""Following keys below a prefix: a snapshot, then every change in order, across outages and compactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from mesh_core.etcd.client import Etcd
from mesh_core.etcd.errors import Compacted, EtcdUnavailable, HistoryLost
from mesh_core.etcd.ops import prefix_end
from mesh_wire.etcd import kv_pb2
from mesh_wire.etcd import rpc_pb2 as wire

logger = structlog.get_logger(__name__)

RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything below the prefix at `revision`, by key. What was seen before and is missing was deleted."""

    revision: int
    entries: Mapping[bytes, kv_pb2.KeyValue]


@dataclass(frozen=True, slots=True)
class Update:
    """All changes of one or more whole revisions up to `revision`, in order."""

    revision: int
    events: list[kv_pb2.Event]


Change: TypeAlias = Snapshot | Update


async def follow(etcd: Etcd, prefix: bytes) -> AsyncGenerator[Change, None]:
    """Yields a `Snapshot`, then `Update`s, for ever; nothing while etcd is unavailable. Raises `EtcdRefused`.

    Another `Snapshot` comes when the changes in between were compacted away, and when etcd was emptied or
    restored; only in the latter case is its revision lower than the last one.
    """
    waits = False
    while True:
        try:
            answer = await etcd.prefix(prefix)
        except EtcdUnavailable as error:
            if not waits:
                waits = True
                logger.warning("waiting for etcd", prefix=prefix.decode(), reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        waits = False
        yield Snapshot(answer.header.revision, {kv.key: kv for kv in answer.kvs})
        try:
            async with aclosing(watch(etcd, prefix, answer.header.revision + 1)) as updates:
                async for update in updates:
                    yield update
        except (Compacted, HistoryLost) as error:
            logger.info("reading etcd anew", prefix=prefix.decode(), reason=error.message)


async def watch(etcd: Etcd, prefix: bytes, first_revision: int) -> AsyncGenerator[Update, None]:
    """Yields every change below `prefix` from `first_revision` on, once, for ever.

    Raises `Compacted` or `HistoryLost` when some cannot be had any more.
    """
    wanted = first_revision
    while True:
        request = wire.WatchCreateRequest(
            key=prefix,
            range_end=prefix_end(prefix),
            start_revision=wanted,
            progress_notify=True,
            fragment=True,
        )
        # Of revisions whose last fragment has not come; when the stream ends they are asked for again.
        pending: list[kv_pb2.Event] = []
        try:
            async with aclosing(etcd.watch_once(request)) as answers:
                async for answer in answers:
                    if answer.compact_revision:
                        raise Compacted(answer.compact_revision)
                    if answer.created and answer.header.revision < wanted - 1:
                        # etcd was emptied or restored, or the member lags: then reading anew does no harm.
                        raise HistoryLost(wanted - 1, answer.header.revision)
                    pending += answer.events
                    if answer.fragment or answer.created or answer.canceled:
                        continue
                    if pending:
                        # Not the header's revision, which is ahead of the events while the watch catches up.
                        wanted = pending[-1].kv.mod_revision + 1
                        yield Update(wanted - 1, pending)
                        pending = []
                    else:
                        # A progress notice, which etcd sends only when the watch has caught up.
                        wanted = max(wanted, answer.header.revision + 1)
        except EtcdUnavailable as error:
            logger.debug("etcd watch interrupted", prefix=prefix.decode(), reason=error.message)
        await asyncio.sleep(RETRY_SECONDS)
