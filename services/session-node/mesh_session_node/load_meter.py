"""How much goes on in each shard, for the planner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from mesh_session_node.session.session import Session


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
            counters, shard = session.counters, session.ref.shard
            counts[session.id] = counters.sent + counters.received
            if shard not in wanted or session.account.deleted or not session.account.online:
                continue
            wanted[shard] += 1
            messages[shard] += counts[session.id] - self._before.get(session.id, counts[session.id])
        self._read_at, self._before = now, counts
        return {shard: (wanted[shard], round(messages[shard] * per_minute)) for shard in shards}
