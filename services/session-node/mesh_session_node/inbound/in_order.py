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
"""How much of all accounts may."""
Work = Callable[[], Awaitable[None]]


class InOrder:
    """One piece of work at a time for each chat that has any; one for all accounts. Chats do not wait for
    each other.
    """

    def __init__(self) -> None:
        self._queues: dict[tuple[UUID, str], deque[Work]] = {}
        self._waiting: Counter[UUID] = Counter()
        self._all = 0

    def busy(self, session: SessionContext, chat: str) -> bool:
        """Whether what comes for this chat now has to wait for what came before."""
        return (session.ref.uuid, chat) in self._queues

    def add(self, session: SessionContext, chat: str, work: Work) -> bool:
        """Do this after what came before for the chat. False: too much of the account waits already."""
        account = session.ref.uuid
        if self._waiting[account] >= MAX_WAITING or self._all >= MAX_WAITING_OF_ALL:
            return False
        self._waiting[account] += 1
        self._all += 1
        queue = self._queues.get((account, chat))
        if queue is None:
            self._queues[account, chat] = queue = deque()
            session.host.spawn(f"receive in {chat} of {session.id}", self._run(account, chat, queue))
        queue.append(work)
        return True

    def has_room(self, session: SessionContext) -> bool:
        """Whether most of what waited is done, of the account and of all."""
        return self._waiting[session.ref.uuid] <= MAX_WAITING // 10 and self._all <= MAX_WAITING_OF_ALL // 2

    async def _run(self, account: UUID, chat: str, queue: deque[Work]) -> None:
        try:
            while queue:
                try:
                    await queue[0]()
                except Exception:  # one message's: what came after it is still to be stored
                    logger.exception("work for a chat failed", account=str(account))
                queue.popleft()
                self._left(account, 1)
        finally:
            del self._queues[account, chat]
            self._left(account, len(queue))

    def _left(self, account: UUID, count: int) -> None:
        self._waiting[account] -= count
        self._all -= count
        if not self._waiting[account]:
            del self._waiting[account]
