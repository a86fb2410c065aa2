"""`mesh doctor`: Redis, or Valkey, which counts calls for all processes and caches. All of it may be lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError
from rich.filesize import decimal

from mesh_cli.commands.doctor.findings import (
    ANSWER_SECONDS,
    NO_ANSWER,
    Finding,
    fastest,
    good,
    measured,
    milliseconds,
    told,
    warning,
    wrong,
)
from mesh_core.settings import RedisSettings

SUBJECT = "Redis"
SLOW_SECONDS = (0.02, 0.25)
"""A call waits a quarter of a second for Redis."""
OLDEST = (6, 2)
FULL = (0.9, 1.0)
_SCRIPT = "return redis.call('SET', KEYS[1], '1', 'EX', '5')"
_KEY = "sessionmesh-doctor"


async def check_redis(settings: RedisSettings) -> list[Finding]:
    """Ask the server, and have it run a script that writes, as limits of calls are counted."""
    at = urlsplit(settings.url)
    place = at.path if at.scheme == "unix" else f"{at.hostname}:{at.port or 6379}"
    redis = Redis.from_url(settings.url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)
    try:
        took = await fastest(redis.ping)
        info: Mapping[str, Any] = await redis.info()
        return [*server_findings(place, info, took), await _write(redis)]
    except AuthenticationError as error:
        return [wrong(SUBJECT, f"{place} {error}", "Check user and password in MESH_REDIS_URL.")]
    except (RedisError, OSError) as error:
        return [wrong(SUBJECT, f"{place} {told(error)}", NO_ANSWER)]
    finally:
        await redis.aclose()


def server_findings(place: str, info: Mapping[str, Any], seconds: float) -> Iterator[Finding]:
    """What is to be said of a server that tells this of itself (INFO)."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", ""))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", ""))
    size = f"{decimal(used)} of {decimal(most)}, {policy}" if most else f"{decimal(used)}, no maxmemory"
    kept = "kept on disk" if info.get("aof_enabled") else "not kept on disk"
    seen = f"{place} {name} {version}, an answer {milliseconds(seconds)}, {size}, {kept}"
    yield measured(
        SUBJECT, seconds, SLOW_SECONDS, seen, "Calls that wait longer are counted by each process alone."
    )
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        yield wrong(SUBJECT, f"{name} {version} is too old", "Redis 6.2 or newer, or Valkey, is needed.")
    if info.get("role") == "slave":
        yield wrong(SUBJECT, "takes no writes: it is a replica", "MESH_REDIS_URL must name the primary.")
    if most and policy == "noeviction" and used / most > FULL[0]:
        yield measured(
            SUBJECT, used / most, FULL, f"{used / most:.0%} of maxmemory, and it evicts nothing", _EVICT
        )
    for key, what in _DISK.items():
        if info.get(key, "ok") != "ok":
            yield warning(SUBJECT, f"{what} failed", "It may refuse writes: look at its disk and its log.")


async def _write(redis: Redis) -> Finding:
    try:
        await redis.eval(_SCRIPT, 1, _KEY)
    except NoPermissionError as error:
        return wrong(
            SUBJECT, f"does not let us write: {error}", "The user needs +@all on its keys (ACL SETUSER)."
        )
    except ResponseError as error:
        return wrong(
            SUBJECT, f"takes no writes: {error}", "Calls are counted by each process alone meanwhile."
        )
    return good(SUBJECT, "runs scripts that write")


_EVICT = "Set maxmemory-policy to allkeys-lru: the mesh needs nothing of it for good."
_DISK = {"rdb_last_bgsave_status": "its last snapshot", "aof_last_write_status": "its last write to its log"}
