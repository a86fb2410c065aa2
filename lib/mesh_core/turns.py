"""Turns that go round the tenants, so that one with thousands in the queue delays nobody else's few."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Generic, TypeVar

from asyncpg.pgproto.pgproto import UUID

T = TypeVar("T")


class Turns(Generic[T]):
    """A queue: first come first served within a tenant, and one of each tenant after the other."""

    __slots__ = ("_size", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[UUID, dict[T, None]] = {}  # in the order of their turns
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, item: object) -> bool:
        return any(item in items for items in self._waiting.values())

    def __iter__(self) -> Iterator[T]:
        """All of them, in the order in which `take` gives them as long as nobody comes."""
        for round_ in zip_longest(*self._waiting.values()):
            yield from (item for item in round_ if item is not None)

    def add(self, tenant: UUID, item: T) -> None:
        """Take a place; who has one keeps it."""
        items = self._waiting.setdefault(tenant, {})
        self._size += item not in items
        items.setdefault(item)

    def discard(self, tenant: UUID, item: T) -> bool:
        """Give the place up; False when there is none."""
        items = self._waiting.get(tenant, {})
        if item not in items:
            return False
        del items[item]
        if not items:
            del self._waiting[tenant]
        self._size -= 1
        return True

    def take(
        self,
        may: Callable[[UUID], bool] = lambda _tenant: True,
        ready: Callable[[T], bool] = lambda _item: True,
    ) -> T | None:
        """Whose turn it is, of the tenants that may and of theirs who is ready; None when it is nobody's."""
        for tenant, items in self._waiting.items():
            if not may(tenant) or (item := next(filter(ready, items), None)) is None:
                continue
            self.discard(tenant, item)
            if tenant in self._waiting:
                self._waiting[tenant] = self._waiting.pop(tenant)
            return item
        return None
