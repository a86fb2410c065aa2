"""Places for what takes long: so many at once on a node, shared by its tenants and their accounts, so that
pages and files which come slowly hold up only those whose they are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncpg.pgproto.pgproto import UUID

from mesh_core.turns import Turns
from mesh_session_node.journal import AccountRef


class Places:
    """An account has `of_an_account` of the `places` at most. A tenant gets another one while it has fewer
    than are free: one alone fills half, and a newcomer finds a place. The queue goes round the tenants, and
    round the accounts of each.
    """

    def __init__(self, places: int, of_an_account: int) -> None:
        self._free = places
        self._of_an_account = of_an_account
        self._tenants: Counter[UUID] = Counter()
        self._accounts: Counter[UUID] = Counter()
        self._queue: Turns[UUID] = Turns()
        """The accounts that want a place; an account stands there once, however many it wants."""
        self._wanted: dict[UUID, dict[asyncio.Event, AccountRef]] = {}

    @asynccontextmanager
    async def place(self, owner: AccountRef) -> AsyncIterator[None]:
        """A place for the account, once its turn has come."""
        called = asyncio.Event()
        self._wanted.setdefault(owner.uuid, {})[called] = owner
        self._queue.add(owner.tenant, owner.uuid)
        self._call_next()
        try:
            await called.wait()
            yield
        finally:
            if called.is_set():
                self._free += 1
                self._tenants -= Counter([owner.tenant])
                self._accounts -= Counter([owner.uuid])
                self._call_next()
            else:
                self._take_off(owner, called)

    def _call_next(self) -> None:
        while self._free and (uuid := self._queue.take(self._tenant_may, self._account_may)) is not None:
            called, owner = next(iter(self._wanted[uuid].items()))
            if len(self._wanted[uuid]) > 1:
                self._queue.add(owner.tenant, uuid)  # behind the tenant's other accounts
            self._take_off(owner, called)
            self._free -= 1
            self._tenants[owner.tenant] += 1
            self._accounts[uuid] += 1
            called.set()

    def _take_off(self, owner: AccountRef, called: asyncio.Event) -> None:
        """One that waits no more; its account does not either when it was the last."""
        wanted = self._wanted[owner.uuid]
        del wanted[called]
        if not wanted:
            del self._wanted[owner.uuid]
            self._queue.discard(owner.tenant, owner.uuid)

    def _tenant_may(self, tenant: UUID) -> bool:
        return self._tenants[tenant] < self._free

    def _account_may(self, account: UUID) -> bool:
        return self._accounts[account] < self._of_an_account
