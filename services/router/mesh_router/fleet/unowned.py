"""For how long shards have had no owner."""

from __future__ import annotations

from collections.abc import Set


class UnownedShards:
    """Its clock stands still while the view is not fresh: then nobody knows who owns what."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._clock = 0.0
        self._last: float | None = None

    def see(self, unowned: Set[int], now: float, *, fresh: bool) -> None:
        """Note which shards nobody runs at `now` (monotonic seconds)."""
        elapsed = 0.0 if self._last is None else now - self._last
        self._last = now
        if not fresh:
            return
        self._clock += elapsed
        self._since = {shard: self._since.get(shard, self._clock) for shard in unowned}

    def longer_than(self, seconds: float) -> int:
        """How many have been unowned for more than `seconds`."""
        return sum(self._clock - since > seconds for since in self._since.values())

    @property
    def count(self) -> int:
        """How many are unowned, as last known."""
        return len(self._since)

    @property
    def oldest(self) -> float:
        """Seconds that the first of them has been unowned for; 0 when there is none."""
        return self._clock - min(self._since.values(), default=self._clock)
