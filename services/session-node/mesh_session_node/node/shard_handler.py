"""Shards come and go: their accounts are loaded and let begin, or closed and written out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Set

import structlog

from mesh_session_node.account.session import Session
from mesh_session_node.journal import Journal
from mesh_session_node.node.loader import AccountLoader
from mesh_session_node.node.registry import Registry

logger = structlog.get_logger(__name__)


class NodeShardHandler:
    """Implements ownership's `ShardHandler`. `clock` is in seconds."""

    def __init__(
        self, registry: Registry, loader: AccountLoader, journal: Journal, clock: Callable[[], float]
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._journal = journal
        self._meter = LoadMeter(clock)
        self._leaving: set[asyncio.Task[None]] = set()
        """Wait for sessions of shards that were lost, of which something may leave yet."""

    async def acquired(self, shards: Mapping[int, int], traces: Mapping[int, str]) -> None:
        """Load the accounts of these shards and let their sessions begin."""
        registry = self._registry
        if self._leaving:
            await asyncio.wait(self._leaving)
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for shard, epoch in shards.items():
            registry.epochs[shard] = epoch
            registry.loading[shard] = loaded
        try:
            await self._loader.load_shards(shards, traces)
        finally:
            for shard in shards:
                if registry.loading.get(shard) is loaded:
                    del registry.loading[shard]
            loaded.set_result(None)

    async def release(self, shards: Collection[int]) -> None:
        """Close the sessions; the fence is released in the commit that stores the last of their rows."""
        registry = self._registry
        epochs = [(shard, registry.epochs[shard]) for shard in shards if shard in registry.epochs]
        for shard in shards:
            for session in registry.in_shard(shard):
                try:
                    session.store_counters(at_once=True)
                except Exception:  # one account's: the shard is left all the same
                    logger.exception("counters were not stored", account_id=session.id)
        sessions = self._in(shards)
        registry.leave(shards)
        await _gone(sessions)
        for at in range(0, len(epochs), _MAX_RELEASED):
            await self._journal.flush(give_back=dict(epochs[at : at + _MAX_RELEASED]))

    def lost(self, shards: Collection[int]) -> None:
        """Close the sockets now."""
        sessions = self._in(shards)
        self._registry.leave(shards)
        if sessions:
            leaving = asyncio.create_task(_gone(sessions), name="sessions of lost shards")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    def _in(self, shards: Iterable[int]) -> list[Session]:
        return [session for shard in shards for session in self._registry.in_shard(shard)]

    def accounts(self, shard: int) -> int:
        """How many sessions run in the shard."""
        return len(self._registry.in_shard(shard))

    def loads(self) -> Mapping[int, tuple[int, int]]:
        """What the planner is to know of the shards whose accounts are loaded."""
        registry = self._registry
        return self._meter.read(registry.epochs.keys() - registry.loading.keys(), registry.sessions.values())


async def _gone(sessions: Iterable[Session]) -> None:
    for session in sessions:  # each has begun to leave: together they take as long as the last one
        await session.gone()


class LoadMeter:
    """Counts messages between one reading and the next. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._read_at = clock()
        self._before: dict[str, int] = {}

    def read(self, shards: Set[int], sessions: Iterable[Session]) -> dict[int, tuple[int, int]]:
        """For each of `shards`: accounts that want a session, and messages a minute since the last reading.

        A session that was not there at the last reading counts without its messages.
        """
        now = self._clock()
        per_minute = 60 / max(1.0, now - self._read_at)
        wanted, messages, counts = dict.fromkeys(shards, 0), dict.fromkeys(shards, 0), {}
        for session in sessions:
            counters, shard = session.context.counters, session.context.ref.shard
            counts[session.id] = counters.sent + counters.received
            if shard not in wanted or session.account.deleted or not session.account.online:
                continue
            wanted[shard] += 1
            messages[shard] += counts[session.id] - self._before.get(session.id, counts[session.id])
        self._read_at, self._before = now, counts
        return {shard: (wanted[shard], round(messages[shard] * per_minute)) for shard in shards}


_MAX_RELEASED = 256  # shards in one transaction, which the server ends after a second
