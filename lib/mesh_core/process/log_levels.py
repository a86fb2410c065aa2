"""Levels of logs as operators set them for a time: keys in etcd that every part follows.

Each has a lease, and an end by the clock: whichever comes first. So a level falls back by itself, also in a
part that is cut off from etcd.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import msgspec
import structlog

from mesh_core.errors import ResourceExhausted
from mesh_core.etcd import Etcd, Snapshot, follow
from mesh_core.process import logs
from mesh_core.process.levels import METHODS
from mesh_wire.etcd import kv_pb2

logger = structlog.get_logger(__name__)

MOST = 100
"""Levels that are set at a time, in a cluster."""
ALL = "all"
KINDS = ("router", "session-node", "media", "webhook")


class LevelSet(msgspec.Struct, frozen=True, kw_only=True):
    """A level that is set: for `part` (`ALL`, a kind of part, or a node's id), until `end` (seconds since the
    epoch); for loggers named `logger` and those below it, or all of Sessionmesh's where it is empty.
    """

    part: str
    level: str
    end: float
    logger: str = ""


async def set_log_level(etcd: Etcd, cluster: str, wanted: LevelSet, seconds: int) -> None:
    """Sets it for so many seconds, in place of what was set for the same loggers of the same part. Raises
    `EtcdUnavailable`, and `ResourceExhausted` where `MOST` others are set: every part follows all of them.
    """
    key = _prefix(cluster) + f"{wanted.part}/{wanted.logger}".encode()
    others = sum(kv.key != key for kv in (await etcd.prefix(_prefix(cluster))).kvs)
    if others >= MOST:
        raise ResourceExhausted(
            f"{MOST} levels of logs are set: wait until some are over, or name loggers further up",
            "QUOTA_EXCEEDED",
            quota="log_levels",
        )
    lease = await etcd.grant(max(seconds, _LEAST_LEASE))
    await etcd.put(key, msgspec.json.encode(wanted), lease.id)


async def follow_log_levels(etcd: Etcd, cluster: str, kind: str, node_id: str = "") -> None:
    """Has this process log as it is set, until it is cancelled."""
    names = (ALL, kind, node_id)
    found: dict[bytes, LevelSet] = {}
    waiting: asyncio.TimerHandle | None = None
    shown: dict[str, str] = {}

    def apply() -> None:
        nonlocal waiting, shown
        now = time.time()
        valid = sorted(
            (one for one in found.values() if one.end > now), key=lambda one: names.index(one.part)
        )
        levels = {one.logger: one.level for one in valid}  # what is said of one node comes last, and counts
        logs.replace_levels({name: METHODS[level] for name, level in levels.items()})
        if levels != shown:
            shown = levels
            logger.warning("levels of logs changed", levels=levels or "as configured")
        if waiting is not None:
            waiting.cancel()
            waiting = None
        if valid:
            pause = max(min(one.end for one in valid) - now, _LEAST_PAUSE)
            waiting = asyncio.get_running_loop().call_later(pause, apply)

    try:
        async with aclosing(follow(etcd, _prefix(cluster))) as changes:
            async for change in changes:
                if isinstance(change, Snapshot):
                    found = {kv.key: one for kv in change.entries.values() if (one := _read(kv, names))}
                else:
                    for event in change.events:
                        found.pop(event.kv.key, None)
                        one = None if event.type == kv_pb2.Event.DELETE else _read(event.kv, names)
                        if one is not None:
                            found[event.kv.key] = one
                apply()
    finally:
        if waiting is not None:
            waiting.cancel()


def _read(kv: kv_pb2.KeyValue, names: tuple[str, ...]) -> LevelSet | None:
    """What a key says, if that is for one of these names; one that no router would write says nothing."""
    try:
        found = msgspec.json.decode(kv.value, type=LevelSet)
    except msgspec.MsgspecError as error:
        logger.error("a level of logs cannot be read, ignored", key=repr(kv.key), error=repr(error))  # noqa: TRY400 - the key tells
        return None
    return found if found.part in names and found.level in METHODS else None


def _prefix(cluster: str) -> bytes:
    return f"/{cluster}/log_levels/".encode()


_LEAST_LEASE = 2  # seconds; etcd gives no shorter one
_LEAST_PAUSE = 0.05
