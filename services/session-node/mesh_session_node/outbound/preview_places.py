"""Places for reading pages: so many at once on a node, shared by its tenants and their accounts, so that
pages which answer slowly hold up only whoever sends their links.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.context.turns import Turns
from mesh_session_node.journal import AccountRef


class _Waiting:
    """One that wants a place."""

    __slots__ = ("called", "owner")

    def __init__(self, owner: AccountRef) -> None:
        self.owner = owner
        self.called = asyncio.Event()


class PreviewPlaces:
    """An account has `of_an_account` of the `places` at most. A tenant gets another one while it has fewer
    than are free: one alone fills half, and a newcomer finds a place. The queue goes round the tenants.
    """

    def __init__(self, places: int, of_an_account: int) -> None:
        self._free = places
        self._of_an_account = of_an_account
        self._tenants: Counter[UUID] = Counter()
        self._accounts: Counter[UUID] = Counter()
        self._queue: Turns[_Waiting] = Turns()

    @asynccontextmanager
    async def place(self, owner: AccountRef) -> AsyncIterator[None]:
        """A place for the account, once its turn has come."""
        waiting = _Waiting(owner)
        self._queue.add(owner.tenant, waiting)
        self._call_next()
        try:
            await waiting.called.wait()
            yield
        finally:
            if not self._queue.discard(owner.tenant, waiting):  # its turn had come
                self._free += 1
                self._tenants -= Counter([owner.tenant])
                self._accounts -= Counter([owner.uuid])
                self._call_next()

    def _call_next(self) -> None:
        while (next_one := self._queue.take(self._tenant_may, self._account_may)) is not None:
            self._free -= 1
            self._tenants[next_one.owner.tenant] += 1
            self._accounts[next_one.owner.uuid] += 1
            next_one.called.set()

    def _tenant_may(self, tenant: UUID) -> bool:
        return self._tenants[tenant] < self._free

    def _account_may(self, waiting: _Waiting) -> bool:
        return self._accounts[waiting.owner.uuid] < self._of_an_account
