"""What came for one chat, worked through in the order in which it came."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.context.context import SessionContext

logger = structlog.get_logger(__name__)

MAX_WAITING = 1_000
"""How much of one account may wait for its turn."""
MAX_WAITING_OF_ALL = 20_000
"""How much of all accounts may; a tenant's get more while they have less than is free."""
Work = Callable[[], Awaitable[None]]


class InOrder:
    """One piece of work at a time for each chat that has any; one for all accounts. Chats do not wait for
    each other.
    """

    def __init__(self) -> None:
        self._queues: dict[tuple[UUID, str], deque[Work]] = {}
        self._waiting: Counter[UUID] = Counter()
        self._of_tenants: Counter[UUID] = Counter()
        self._all = 0

    def busy(self, session: SessionContext, chat: str) -> bool:
        """Whether what comes for this chat now has to wait for what came before."""
        return (session.ref.uuid, chat) in self._queues

    def add(self, session: SessionContext, chat: str, work: Work) -> bool:
        """Do this after what came before for the chat. False: too much of the account waits already."""
        account, tenant = session.ref.uuid, session.ref.tenant
        free = MAX_WAITING_OF_ALL - self._all
        if self._waiting[account] >= MAX_WAITING or self._of_tenants[tenant] >= free:
            return False
        self._waiting[account] += 1
        self._of_tenants[tenant] += 1
        self._all += 1
        queue = self._queues.get((account, chat))
        if queue is None:
            self._queues[account, chat] = queue = deque()
            session.host.spawn(f"receive in {chat} of {session.id}", self._run(session, chat, queue))
        queue.append(work)
        return True

    def has_room(self, session: SessionContext) -> bool:
        """Whether most of what waited is done, of the account, and of its tenant for what is free."""
        free = MAX_WAITING_OF_ALL - self._all
        little = self._waiting[session.ref.uuid] <= MAX_WAITING // 10
        return little and self._of_tenants[session.ref.tenant] <= free // 2

    async def _run(self, session: SessionContext, chat: str, queue: deque[Work]) -> None:
        account = session.ref.uuid
        try:
            while queue:
                try:
                    await queue[0]()
                except Exception:  # one message's: what came after it is still to be stored
                    logger.exception("work for a chat failed", account=str(account))
                queue.popleft()
                self._left(session, 1)
        finally:
            del self._queues[account, chat]
            self._left(session, len(queue))

    def _left(self, session: SessionContext, count: int) -> None:
        account, tenant = session.ref.uuid, session.ref.tenant
        self._waiting[account] -= count
        self._of_tenants[tenant] -= count
        self._all -= count
        if not self._waiting[account]:
            del self._waiting[account]
        if not self._of_tenants[tenant]:
            del self._of_tenants[tenant]
