"""Receipts of groups' members. A message to a thousand people is confirmed by all of them at once: what that
costs is spread over time, so that it does not stand before what others want of the node, and who they are is
stored once, though the network tells of each member with every receipt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.drivers.interface.content import Identity

logger = structlog.get_logger(__name__)

WINDOW_SECONDS = 0.004
AT_ONCE = 32
"""How many are handled in a window, of all accounts; of a long queue more, so that it is short again soon."""
WINDOWS = 32
"""A queue is gone after some multiple of so many windows, whatever comes."""
_IN_TURN = 8


class Spread:
    """One of a node. What comes while there is room is handled at once, then in turns over the accounts."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = AT_ONCE
        self._waiting = 0
        self._queues: dict[object, deque[Callable[[], None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def holds(self, account: object) -> bool:
        """Whether something of the account waits: then all that comes of it does, to keep its order."""
        return account in self._queues

    def handle(self, account: object, receipt: Callable[[], None]) -> None:
        """Handle a receipt of the account, now or in some windows."""
        if self._timer is None:
            self._timer = self._loop.call_later(WINDOW_SECONDS, self._next)
        queue = self._queues.get(account)
        if queue is None:
            if self._room > 0:
                self._room -= 1
                receipt()
                return
            queue = self._queues[account] = deque()
        queue.append(receipt)
        self._waiting += 1

    def _next(self) -> None:
        self._timer = None
        self._room = max(AT_ONCE, self._waiting // WINDOWS)
        while self._queues and self._room > 0:
            account, queue = next(iter(self._queues.items()))
            for _ in range(min(_IN_TURN, len(queue))):
                self._room -= 1
                self._waiting -= 1
                try:
                    queue.popleft()()
                except Exception:  # one account's: the others' are still to be handled
                    logger.exception("a receipt of a member is lost")
            del self._queues[account]
            if queue:  # behind the others
                self._queues[account] = queue
        if self._queues:
            self._timer = self._loop.call_later(WINDOW_SECONDS, self._next)
        else:
            self._room = AT_ONCE


MAX_TOLD = 200_000
"""Of all accounts of a process; of more, the oldest are told again."""


class Told:
    """What a network has told of people lately, as digests alone: about 100 bytes each."""

    def __init__(self, most: int = MAX_TOLD) -> None:
        self._most = most
        self._digests: dict[int, None] = {}

    def is_new(self, account: UUID, address: str, identity: Identity) -> bool:
        """Whether an account was not told this before of who is behind an address."""
        digest = hash((account, address, identity))
        if digest in self._digests:
            return False
        self._digests[digest] = None
        if len(self._digests) > self._most:
            del self._digests[next(iter(self._digests))]
        return True


TOLD = Told()
"""Of this process. What it forgets is stored once more, which changes nothing."""
