"""How much of one kind each tenant may have under way, where waiting for a turn would help nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import ResourceExhausted


class AtOnce:
    """Counts what this process has under way for each tenant. No tenant takes anything from another.

    `things` and `quota` are what an error names, in words and as the limit's name; `retry_after` is seconds.
    """

    __slots__ = ("_most", "_quota", "_retry_after", "_running", "_things")

    def __init__(self, most: int, things: str, quota: str, retry_after: float) -> None:
        self._most = most
        self._things = things
        self._quota = quota
        self._retry_after = retry_after
        self._running: Counter[UUID] = Counter()

    @contextmanager
    def one(self, tenant: UUID) -> Iterator[None]:
        """One more, until the block ends. Raises `ResourceExhausted` RATE_LIMITED where the tenant has
        as many as it may.
        """
        if self._running[tenant] >= self._most:
            raise ResourceExhausted(
                f"the tenant has {self._most} {self._things} under way here",
                "RATE_LIMITED",
                quota=self._quota,
                retry_after=self._retry_after,
            )
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running -= Counter([tenant])  # which keeps nothing of who has none
