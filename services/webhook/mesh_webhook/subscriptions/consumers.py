"""The consumers of this process: each is an open stream of a named subscription, with its share of accounts.

A subscription's accounts are in lanes, and a lane has one holder. A consumer is a row with a lease: while it
is there, nobody else gets its lanes. Whoever finds that a lease is over ends the consumer, so that what a
killed process held goes to others, from what was acknowledged on.

Under one id a consumer is sent events in the order of their cursors, so one cursor says what it has done.
When its lanes change it waits until all that it was sent is acknowledged, and goes on under another id: what
is acknowledged late, or twice, is then of the former id, and moves nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.database import UNAVAILABLE
from mesh_core.errors import ResourceExhausted
from mesh_core.events import Cursor
from mesh_core.metrics import counters, gauge
from mesh_core.signal import Signal
from mesh_webhook.subscriptions.subscription import LANES, Subscription

logger = structlog.get_logger(__name__)

MAX_CONSUMERS = LANES
"""Of a subscription: more would have nothing."""
MAX_UNACKNOWLEDGED = 1000
"""Events that a consumer is sent ahead of what it acknowledges."""
ACKNOWLEDGE_SECONDS = 60.0
"""A consumer that acknowledges nothing for so long, of what it has, is ended."""
LEASE_SECONDS = 8.0
BEAT_SECONDS = 2.0
RETRY_SECONDS = 5.0
"""When one over `MAX_CONSUMERS` may be tried again."""

CONSUMERS = gauge(
    "mesh_subscription_consumers",
    "Open streams of named subscriptions.",
    answers="How many consumers are there?",
)
CONSUMERS.set(0)
ENDED = counters(
    "mesh_subscription_consumers_ended_total",
    "Consumers that were ended by the mesh.",
    answers="Do consumers not keep up?",
    why=["lapsed", "not acknowledged"],
)


@dataclass(slots=True, eq=False)
class Consumer:
    """One stream. `wake` is called when something of it has changed, and `lost` says why it has ended."""

    subscription: Subscription
    id: UUID | None = None
    lanes: Mapping[int, Cursor] = field(default_factory=dict)
    """Those that it holds, and where each began."""
    read: Cursor = field(default_factory=lambda: Cursor(0, 0, 0))
    """Everything of its lanes up to here was sent, or is nothing for it."""
    waiting: deque[Cursor] = field(default_factory=deque)
    """Sent and not acknowledged, in order."""
    progress: float = 0.0
    """The monotonic time since which it has acknowledged nothing."""
    unbalanced: bool = False
    """It has more lanes than its share, or fewer and there are free ones."""
    lost: str = ""
    joining: bool = False
    wake: Callable[[], None] = lambda: None

    def begin(self, consumer: UUID, lanes: Mapping[int, Cursor]) -> None:
        """Nothing was sent under this id yet."""
        self.id, self.lanes, self.unbalanced = consumer, lanes, False
        self.read = min(lanes.values(), default=self.read)
        self.waiting.clear()

    @property
    def floor(self) -> Cursor | None:
        """Where its lanes stand by themselves; None while that is for acknowledgements to say."""
        return self.read if self.lanes and not self.waiting else None

    def sent(self, cursors: Iterable[Cursor]) -> None:
        """These events went out."""
        if not self.waiting:
            self.progress = time.monotonic()
        self.waiting.extend(cursors)
        self.read = max(self.read, self.waiting[-1])

    def settle(self, done: Cursor) -> None:
        """Everything up to `done` is acknowledged."""
        while self.waiting and self.waiting[0] <= done:
            self.waiting.popleft()
            self.progress = time.monotonic()

    def lose(self, why: str) -> None:
        """It has ended: its stream is to say why."""
        self.lost = self.lost or why
        self.wake()


class Consumers:
    """Keeps the leases of this process's consumers, and ends those of dead ones; `run` it as a task."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._consumers: set[Consumer] = set()
        self._left: list[UUID] = []
        self._ending = asyncio.Lock()
        self._changed = Signal()

    async def join(self, consumer: Consumer) -> bool:
        """Gives it its share of the lanes, under a new id; False where the subscription has lost its place.

        Nothing that it was sent may wait to be acknowledged. Raises `ResourceExhausted` when there are too
        many.
        """
        joined = ids.new_uuid()
        consumer.joining = True
        try:
            answer = await self._pool.fetchval(
                _JOIN, consumer.subscription.id, joined, consumer.id, _lease(), MAX_CONSUMERS
            )
            if answer == "full":
                raise ResourceExhausted(
                    f"the subscription has {MAX_CONSUMERS} streams",
                    "RATE_LIMITED",
                    quota="subscription_consumers",
                    retry_after=RETRY_SECONDS,
                )
            if answer == "lost":
                consumer.lose(_LAPSED)
                return True
            if answer == "gone":
                return False
            rows = await self._pool.fetch(_LANES, joined)
            consumer.begin(joined, {row["lane"]: Cursor.of_place(row["place"]) for row in rows})
        finally:
            consumer.joining = False
        self._consumers.add(consumer)
        CONSUMERS.set(len(self._consumers))
        return True

    async def send(self, consumer: Consumer, cursors: list[Cursor]) -> bool:
        """Notes that these events go out now; False when they must not: its lanes may be somebody else's."""
        began = time.monotonic()
        done = await self._pool.fetchval(_SEND, consumer.id, cursors[-1].place, _lease())
        if done is None or time.monotonic() - began > LEASE_SECONDS:
            consumer.lose(_LAPSED)
            return False
        consumer.sent(cursors)
        consumer.settle(Cursor.of_place(done))
        return True

    async def look(self, consumer: Consumer) -> None:
        """Settles what was acknowledged to other processes."""
        done = await self._pool.fetchval(_DONE, consumer.id)
        if done is None:
            consumer.lose(_LAPSED)
        else:
            consumer.settle(Cursor.of_place(done))

    def acknowledged(self, done: Mapping[UUID, Cursor]) -> None:
        """Settles what was acknowledged here."""
        for consumer in self._consumers:
            if consumer.id is not None and consumer.id in done:
                consumer.settle(done[consumer.id])
                consumer.wake()

    def leave(self, consumer: Consumer) -> None:
        """Its stream has ended: its lanes go to others, as soon as the database answers."""
        self._consumers.discard(consumer)
        CONSUMERS.set(len(self._consumers))
        if consumer.id is not None:
            self._left.append(consumer.id)
            self._changed.notify()

    async def run(self) -> None:
        """Runs until it is cancelled; waits out a database that is unavailable."""
        while True:
            seen = self._changed.version
            try:
                await self._end_left()
                await self._beat()
                await self._end_lapsed()
            except Exception as error:  # whatever it is, the next beat may do better, and a lease is four
                logger.warning("consumers: trying again", error=repr(error))
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._changed.wait(since=seen)
            except TimeoutError:
                pass

    async def drain(self) -> None:
        """Gives back what the streams had, once they have ended; without a database the leases lapse."""
        try:
            await self._end_left()
        except UNAVAILABLE as error:
            logger.warning("consumers are left to lapse", error=repr(error))

    async def _end_left(self) -> None:
        """Ends the consumers whose streams have ended."""
        async with self._ending:  # a drain waits for what the loop is at
            while self._left:
                consumer = self._left.pop()
                try:
                    await self._pool.execute(_LEAVE, consumer, False, _lease())
                except UNAVAILABLE:
                    self._left.append(consumer)
                    raise

    async def _beat(self) -> None:
        beaten = {one.id: one for one in self._consumers if one.id and not one.joining and not one.lost}
        if not beaten:
            return
        floors = [one.floor.place if one.floor else b"" for one in beaten.values()]
        rows = {row["id"]: row for row in await self._pool.fetch(_BEAT, [*beaten], floors, _lease())}
        for consumer_id, consumer in beaten.items():
            if consumer.id != consumer_id or consumer.joining:
                continue  # it goes on under another one
            row = rows.get(consumer_id)
            if row is None:
                consumer.lose(_LAPSED)
                ENDED.labels("lapsed").inc()
                continue
            consumer.settle(Cursor.of_place(row["done"]))
            held, share = row["held"], row["share"]
            consumer.unbalanced = held > share or (held < share and row["free"])
            if consumer.unbalanced:
                consumer.wake()
            if consumer.waiting and time.monotonic() - consumer.progress > ACKNOWLEDGE_SECONDS:
                consumer.lose(f"nothing was acknowledged for {ACKNOWLEDGE_SECONDS:g} s")
                ENDED.labels("not acknowledged").inc()
                self.leave(consumer)  # at once: its stream may wait for its caller to read

    async def _end_lapsed(self) -> None:
        for row in await self._pool.fetch(_LAPSING, _lease()):
            if await self._pool.fetchval(_LEAVE, row["id"], True, _lease()):
                logger.warning("a consumer has lapsed: its accounts go to others", consumer=str(row["id"]))


def _lease() -> timedelta:
    return timedelta(seconds=LEASE_SECONDS)


_LAPSED = "the consumer has lapsed"
_JOIN = "SELECT subscription_join($1, $2, $3, $4, $5)"
_LEAVE = "SELECT subscription_leave($1, $2, $3)"
_LANES = """SELECT l.lane, l.place FROM subscription_consumer c
  JOIN subscription_lane l ON l.subscription = c.subscription AND l.holder = c.id WHERE c.id = $1"""
_SEND = """UPDATE subscription_consumer SET sent = greatest(sent, $2), lapse_at = clock_timestamp() + $3
  WHERE id = $1 RETURNING done"""
_DONE = "SELECT done FROM subscription_consumer WHERE id = $1"
_BEAT = """WITH beaten AS (
    UPDATE subscription_consumer c SET lapse_at = clock_timestamp() + $3, done = greatest(c.done, k.floor)
      FROM unnest($1::uuid[], $2::bytea[]) AS k(id, floor) WHERE c.id = k.id
      RETURNING c.id, c.subscription, c.done)
  SELECT b.id, b.done, subscription_share(b.id) AS share, l.held, l.free FROM beaten b CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE holder = b.id) AS held, count(*) FILTER (WHERE holder IS NULL) > 0 AS free
      FROM subscription_lane WHERE subscription = b.subscription) AS l"""
_LAPSING = """SELECT id FROM subscription_consumer
  WHERE lapse_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + 2 * $1::interval
  ORDER BY id LIMIT 100"""
