"""The counts that all processes share, in Redis: one round trip for all limits that a call meets.

Each limit is a generic cell rate (GCRA): Redis holds the instant at which all that was granted will have come
back, so a limit is one number, and an idle one is no key at all. Redis' own clock counts. The keys of one
tenant have one hash tag, so that a cluster has them in one slot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from mesh_core.metrics import counters
from mesh_core.rpc.limits.bucket import Bucket

logger = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 0.25
"""How long a message or a query waits for Redis; without an answer this process counts alone."""
OPERATION_TIMEOUT_SECONDS = 2.0
"""How long an instance operation waits, twice: it is refused without an answer, and a slow moment is none."""
TURNS = 10
"""Turns of the event loop in which an answer can be heard, at least, before Redis is called silent: a loop
that is held up for a second would hear its own time-out first, and then the answer.
"""
PAUSE_SECONDS = 1.0
"""How long Redis is left alone after it did not answer; calls do not wait for it meanwhile."""

ASKED = counters(
    "mesh_limits_asked_total",
    "Round trips to Redis for limits of calls.",
    answers="Does Redis answer in time?",
    outcome=["answered", "unavailable"],
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: `untold` calls were granted before, `need` are wanted at least and `want` at most."""

    bucket: Bucket
    untold: int
    need: int
    want: int


@dataclass(frozen=True, slots=True)
class Granted:
    """An answer: so many, and where they are fewer than needed, the seconds until there is one more."""

    calls: int
    retry_after: float


class Counts(Protocol):
    """Who counts for all processes."""

    @property
    def available(self) -> bool:
        """Whether it is worth asking."""

    async def take(self, asked: Sequence[Asked]) -> list[Granted] | None:
        """An answer for each question; None when there is none to be had now. All are of one hash tag."""


def connect(url: str) -> Redis:
    """A client of Redis whose answers are waited for by `heard`."""
    return Redis.from_url(
        url,
        socket_timeout=None,  # the client's own is deaf to what came while the loop was held up
        socket_connect_timeout=None,
        # Once more over a new connection: Redis may have been started again since this one was used.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


class SharedCounts:
    """`Counts` in Redis."""

    def __init__(self, url: str, *, patient: bool = False) -> None:
        """`patient`: it waits as long as instance operations do, and asks again who did not answer in time.
        A question that was heard all the same is counted twice then: rather too much than too little.
        """
        self._seconds = OPERATION_TIMEOUT_SECONDS if patient else TIMEOUT_SECONDS
        self._attempts = 2 if patient else 1
        self._redis = connect(url)
        self._questions = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._script = self._redis.register_script(_SCRIPT)
        self._away_until = 0.0

    @property
    def available(self) -> bool:
        """See `Counts`."""
        return time.monotonic() >= self._away_until

    async def take(self, asked: Sequence[Asked]) -> list[Granted] | None:
        """See `Counts`."""
        async with self._questions:
            if not self.available:
                return None
            try:
                answer = await self._ask(
                    [one.bucket.redis_key for one in asked],
                    [number for one in asked for number in _arguments(one)],
                )
            except (RedisError, OSError, TimeoutError) as error:
                self._away_until = time.monotonic() + PAUSE_SECONDS
                ASKED.labels("unavailable").inc()
                logger.warning("limits cannot be counted", error=repr(error))
                return None
        ASKED.labels("answered").inc()
        return [Granted(calls, micros / 1e6) for calls, micros in zip(answer[::2], answer[1::2], strict=True)]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _ask(self, keys: list[str], args: list[float | int]) -> list[int]:
        """Raises `TimeoutError` when Redis is silent."""
        for _ in range(self._attempts):
            asking: asyncio.Future[list[int]] = asyncio.ensure_future(self._script(keys, args))
            try:
                if await heard(asking, self._seconds):
                    return asking.result()
            finally:
                asking.cancel()  # and its connection ends, so that a late answer is nobody else's
        raise TimeoutError("no answer")


async def heard(answer: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it came within these seconds, and within `TURNS` of the loop."""
    for _ in range(TURNS):
        done, _ = await asyncio.wait((answer,), timeout=seconds / TURNS)
        if done:
            return True
    return False


def _arguments(asked: Asked) -> tuple[float | int, ...]:
    bucket = asked.bucket
    return bucket.seconds * 1e6 / bucket.calls, bucket.calls, asked.untold, asked.need, asked.want


_MAX_CONNECTIONS = 16
"""Questions at once; further ones wait, each a fraction of a millisecond."""
# Instants and intervals are microseconds; they fit into a double's 53 bits until the year 2255.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 5
  local each, most = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local untold, need, want = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local full = tonumber(redis.call('GET', key) or now)
  -- More than a whole window ahead was written by a clock that has stepped back since.
  -- Nor is anybody kept waiting longer than a window by what processes granted without asking.
  full = math.min(math.max(full, now) + untold * each, now + most * each)
  local room = math.floor((now - full) / each + most + 0.000001)
  local calls = math.max(math.min(want, room), 0)
  full = full + calls * each
  if full > now then
    redis.call('SET', key, string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
  end
  local wait = 0
  if calls < need then wait = math.max(math.ceil(full + each - most * each - now), 1) end
  answer[#answer + 1] = calls
  answer[#answer + 1] = wait
end
return answer
"""
