"""What a part looks at before it serves: whether it fits its database, its clock, and the parts beside it.

Each refusal is a `Misconfigured`: one line with the remedy, exit code 78. Clocks and neighbours get
`PATIENCE_SECONDS` first: a clock may just be set, and parts that were killed are listed for some seconds.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from mesh_core.database import DATABASE_ERRORS, Database, check_identity
from mesh_core.database.migrations import check_schema
from mesh_core.disk import is_full
from mesh_core.errors import Misconfigured, StartupError
from mesh_core.etcd import Etcd, EtcdRefused, EtcdUnavailable
from mesh_core.process.service import service_version

logger = structlog.get_logger(__name__)

MOST_SECONDS_OFF = 5.0
"""Between this machine's clock and that of Postgres."""
PATIENCE_SECONDS = 8.0
PAUSE_SECONDS = 0.5


class WrongClock(Misconfigured):
    """This machine's clock and that of Postgres do not agree."""


class UnfitNeighbour(Misconfigured):
    """A part of a release runs that this one cannot run beside."""


class _Neighbour(msgspec.Struct, frozen=True):
    """What every part says of itself in etcd, as far as it matters here; early releases say no version."""

    id: str
    version: str = ""


async def check_surroundings(database: Database, etcd: Etcd, cluster: str, oldest_schema: int) -> None:
    """Raises `SchemaMismatch`, `ForeignDatabase`, `WrongClock` or `UnfitNeighbour`, and `StartupError` where
    the database is lost meanwhile, or etcd takes no such user.
    """
    try:
        await check_schema(database, oldest_schema)
        await check_identity(database)
        await _patiently(lambda: check_clock(database))
        await _patiently(lambda: check_neighbours(etcd, cluster, service_version()))
    except DATABASE_ERRORS as error:
        raise StartupError(f"the database cannot be used: {error or type(error).__name__}") from error
    except EtcdRefused as error:
        raise StartupError(
            f"{error.message}: check MESH_ETCD_USERNAME and _PASSWORD, and the role"
        ) from error


async def check_clock(database: Database) -> None:
    """Raises `WrongClock`. How long the answer takes does not count."""
    before = time.time()
    there: float = await database.pool.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    after = time.time()
    off = min(max(there, before), after) - there
    if abs(off) > MOST_SECONDS_OFF:
        raise WrongClock(
            f"this machine's clock is {abs(off):.0f} s {'before' if off > 0 else 'behind'} that of Postgres, "
            f"{MOST_SECONDS_OFF:.0f} s at most are allowed: have both follow a time server (chrony, NTP)"
        )


async def check_neighbours(etcd: Etcd, cluster: str, own: str) -> None:
    """Raises `UnfitNeighbour` unless all parts that run are of a release next to `own`, or the same. Says so
    in the log when etcd does not answer, and leaves it at that.
    """
    for kind in ("nodes", "services"):
        try:
            found = (await etcd.prefix(f"/{cluster}/{kind}/".encode())).kvs
        except EtcdUnavailable as error:
            logger.warning(
                "etcd does not answer: whom this part runs beside is unknown", reason=error.message
            )
            return
        for kv in found:
            try:
                neighbour = msgspec.json.decode(kv.value, type=_Neighbour)
            except msgspec.MsgspecError:  # who reads the key for what it says tells of it
                continue
            if not fits(own, neighbour.version):
                name = kv.key.decode(errors="replace").removeprefix(f"/{cluster}/{kind}/")
                raise UnfitNeighbour(
                    f"release {own} cannot run beside {name}, which is of release {neighbour.version}: "
                    "go from one minor release to the next, and to all parts, before another one"
                )


def fits(own: str, other: str) -> bool:
    """Whether parts of these two releases may run at the same time: one minor release apart at most."""
    here, there = _RELEASE.match(own), _RELEASE.match(other)
    if here is None or there is None:
        return True
    return here[1] == there[1] and abs(int(here[2]) - int(there[2])) <= 1


def refuse_full(folder: Path, variable: str) -> None:
    """Raises `Misconfigured` where the disk of an existing folder has no room."""
    if is_full(folder):
        raise Misconfigured(
            f"the disk of {folder} is full: make room, or set {variable} to a folder on another disk"
        )


async def _patiently(check: Callable[[], Awaitable[None]]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await check()
        except Misconfigured as error:
            if time.monotonic() >= until:
                raise
            logger.warning("not starting yet", reason=str(error))
        await asyncio.sleep(PAUSE_SECONDS)


_RELEASE = re.compile(r"(\d+)\.(\d+)\b")
