"""What the network said of numbers, for some hours, in Redis: a number is asked once, not with each list.

Each tenant has checks of its own in each network, so that none can tell from an answer, its time or its
speed what another has asked. Redis' own clock counts. Without Redis, or while it is silent, nothing is known:
numbers are asked again, and no call fails.
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

from mesh_core.rpc.limits.shared import PAUSE_SECONDS, TIMEOUT_SECONDS, connect, heard
from sessionmesh.v1.contact_pb2 import NumberCheck

logger = structlog.get_logger(__name__)

LEAST_SECONDS, MOST_SECONDS = 2 * 3600, 4 * 3600
"""How long an answer is good, at random in between: a list's numbers are not all asked again at once."""
MAX_CHECKS = 100_000
"""Of one tenant in one network; of more, those go that would end first."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Whose checks: a tenant's, in one network, by its driver's name."""

    tenant: UUID
    network: str

    @property
    def keys(self) -> tuple[str, str]:
        """What was said by number, and when each ends; in one slot of a cluster."""
        name = f"mesh:numbers:{{{self.tenant.hex}}}:{self.network}"
        return name, f"{name}:ends"


class NumberChecks:
    """The checks of all tenants; with an empty URL none is kept."""

    def __init__(self, url: str, most: int = MAX_CHECKS) -> None:
        self._most = most
        self._away_until = 0.0
        self._redis = connect(url) if url else None
        if self._redis is not None:
            self._find = self._redis.register_script(_FIND)
            self._keep = self._redis.register_script(_KEEP)

    async def known(self, whose: Checked, phones: Sequence[str]) -> Mapping[str, NumberCheck]:
        """What is known of some of these numbers (E.164), by number."""
        said = await self._ask("find", whose, list(phones))
        if said is None:
            return {}
        return {
            phone: NumberCheck.FromString(check)
            for phone, check in zip(phones, said, strict=True)
            if check is not None
        }

    async def keep(self, whose: Checked, checks: Mapping[str, NumberCheck]) -> None:
        """Keep what the network has just said of numbers."""
        arguments: list[Any] = [self._most, MOST_SECONDS * 1000]
        for phone, check in checks.items():
            seconds = random.uniform(LEAST_SECONDS, MOST_SECONDS)  # noqa: S311 - spreading load needs no secrecy
            arguments += [phone, int(seconds * 1000), check.SerializeToString()]
        await self._ask("keep", whose, arguments)

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, what: str, whose: Checked, arguments: list[Any]) -> list[bytes | None] | None:
        """Redis' answer; None when there is none to be had now."""
        if self._redis is None or time.monotonic() < self._away_until:
            return None
        script = self._find if what == "find" else self._keep
        asking: asyncio.Future[list[bytes | None]] = asyncio.ensure_future(script(whose.keys, arguments))
        try:
            if not await heard(asking, TIMEOUT_SECONDS):
                raise TimeoutError("no answer")
            return asking.result()
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("number checks are not kept", error=repr(error))
            return None
        finally:
            asking.cancel()  # and its connection ends, so that a late answer is nobody else's


_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_FIND = (
    _NOW
    + """
local found = redis.call('HMGET', KEYS[1], unpack(ARGV))
for i, phone in ipairs(ARGV) do
  if tonumber(redis.call('ZSCORE', KEYS[2], phone) or 0) <= now then found[i] = false end
end
return found
"""
)
_KEEP = (
    _NOW
    + """
local function forget(phones)
  if #phones > 0 then
    redis.call('HDEL', KEYS[1], unpack(phones))
    redis.call('ZREM', KEYS[2], unpack(phones))
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
