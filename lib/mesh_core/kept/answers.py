"""What networks answered, for some hours, in Redis: the same is asked once, and not with each call.

Each tenant has answers of its own from each network, so that none can tell from an answer, its time or its
speed what another has asked. Redis' own clock counts. Without Redis, or while it is silent, nothing is known:
networks are asked again, and no call fails.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from asyncpg.pgproto.pgproto import UUID
from redis.exceptions import RedisError

from mesh_core.errors import Unavailable
from mesh_core.rpc.limits.shared import PAUSE_SECONDS, TIMEOUT_SECONDS, connect, heard

logger = structlog.get_logger(__name__)

LEAST_SECONDS, MOST_SECONDS = 2 * 3600, 4 * 3600
"""How long an answer is good, at random in between: a list's names are not all asked again at once."""
MAX_ANSWERS = 100_000
"""Of one tenant in one network, about one thing; of more, those go that would end first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Whose answers: a tenant's, of one network, by its driver's name, about `what`, a word."""

    tenant: UUID
    network: str
    what: str

    @property
    def keys(self) -> tuple[str, str]:
        """What was answered by name, and when each ends; in one slot of a cluster."""
        name = f"{_PREFIX}:{self.what}:{{{self.tenant.hex}}}:{self.network}"
        return name, f"{name}{_ENDS}"


class KeptAnswers:
    """The answers of all tenants; with an empty URL none is kept."""

    def __init__(self, url: str, most: int = MAX_ANSWERS) -> None:
        self._most = most
        self._away_until = 0.0
        self._redis = connect(url) if url else None
        if self._redis is not None:
            self._find = self._redis.register_script(_FIND)
            self._keep = self._redis.register_script(_KEEP)
            self._forget = self._redis.register_script(_FORGET)

    async def known(self, whose: Kept, names: Sequence[str]) -> Mapping[str, bytes]:
        """What is known of some of these names, by name."""
        answers = await self._ask("find", whose, list(names))
        if answers is None:
            return {}
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}

    async def keep(self, whose: Kept, answers: Mapping[str, bytes]) -> None:
        """Keep what the network has just answered, by name."""
        arguments: list[Any] = [self._most, MOST_SECONDS * 1000]
        for name, answer in answers.items():
            seconds = random.uniform(LEAST_SECONDS, MOST_SECONDS)  # noqa: S311 - spreading load needs no secrecy
            arguments += [name, int(seconds * 1000), answer]
        await self._ask("keep", whose, arguments)

    async def forget(self, whose: Kept, names: Sequence[str]) -> None:
        """What was answered is not so any more."""
        await self._ask("forget", whose, list(names))

    async def clear(self, tenant: UUID | None) -> int:
        """Forget all that one tenant was answered, or all tenants were; how many answers that were. Raises
        `Unavailable` BACKEND_UNAVAILABLE when Redis does not say so; without a Redis there are none.
        """
        if self._redis is None:
            return 0
        whose = "*" if tenant is None else tenant.hex
        cleared = 0
        try:
            async with asyncio.timeout(_CLEAR_SECONDS):
                async for key in self._redis.scan_iter(f"{_PREFIX}:*:{{{whose}}}:*", count=1000):
                    if not key.endswith(_ENDS.encode()):
                        cleared += await self._redis.hlen(key)
                    await self._redis.unlink(key)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable(
                f"Redis does not answer: {error or 'in time'}", "BACKEND_UNAVAILABLE", retry_after=1.0
            ) from None
        return cleared

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, what: str, whose: Kept, arguments: list[Any]) -> list[bytes | None] | None:
        """Redis' answer; None when there is none to be had now."""
        if self._redis is None or time.monotonic() < self._away_until:
            return None
        script = {"find": self._find, "keep": self._keep, "forget": self._forget}[what]
        asking: asyncio.Future[list[bytes | None]] = asyncio.ensure_future(script(whose.keys, arguments))
        try:
            if not await heard(asking, TIMEOUT_SECONDS):
                raise TimeoutError("no answer")
            return asking.result()
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("answers of networks are not kept", error=repr(error))
            return None
        finally:
            asking.cancel()  # and its connection ends, so that a late answer is nobody else's


_PREFIX = "mesh:kept"
_ENDS = ":ends"
_CLEAR_SECONDS = 30.0
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_FIND = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[1], unpack(ARGV))
for i, name in ipairs(ARGV) do
  if tonumber(redis.call('ZSCORE', KEYS[2], name) or 0) <= now then found[i] = false end
end
return found
"""
)
_KEEP = (
    _NOW
    + """
local function forget(names)
  if #names > 0 then
    redis.call('HDEL', KEYS[1], unpack(names))
    redis.call('ZREM', KEYS[2], unpack(names))
  end
end
for i = 3, #ARGV, 3 do
  redis.call('ZADD', KEYS[2], now + ARGV[i + 1], ARGV[i])
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
end
-- Some more than came each time: those that ended long ago do not hold up the one call that finds them.
forget(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000))
local over = redis.call('ZCARD', KEYS[2]) - ARGV[1]
if over > 0 then forget(redis.call('ZRANGE', KEYS[2], 0, over - 1)) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {}
"""
)
_FORGET = """
redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('ZREM', KEYS[2], unpack(ARGV))
return {}
"""
