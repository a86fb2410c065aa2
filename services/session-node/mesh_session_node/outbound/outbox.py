"""What an account must still send: by priority, in order of acceptance within a chat, scheduled ones when
they are due.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.outbound.outgoing import Outgoing


class Outbox:
    """The messages of one account that are not with the network. Times are seconds since the epoch.

    Ids rise with the order of acceptance, so a message that comes back (to be tried again, or its connection
    broke) takes its old place. A chat can be held: its messages wait, the others go on.
    """

    __slots__ = ("_held", "_later", "_messages", "_ready")

    def __init__(self) -> None:
        self._messages: dict[UUID, Outgoing] = {}
        self._ready: list[tuple[int, bytes, Outgoing]] = []
        self._later: list[tuple[float, bytes, Outgoing]] = []
        self._held: dict[str, list[Outgoing]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._messages.values())

    def waiting(self) -> list[Outgoing]:
        """All messages, as a list that another thread can read."""
        return [*self._messages.values()]

    def find(self, message: UUID) -> Outgoing | None:
        """The message, if it is here."""
        return self._messages.get(message)

    @property
    def holding(self) -> bool:
        """Whether a chat is held."""
        return bool(self._held)

    def push(self, message: Outgoing, now: float) -> None:
        """Put a message in, or back."""
        self._messages[message.uuid] = message
        if message.due is not None and message.due > now:
            heapq.heappush(self._later, (message.due, message.uuid.bytes, message))
        elif (held := self._held.get(message.chat)) is not None:
            held.append(message)
        else:
            heapq.heappush(self._ready, (message.order, message.uuid.bytes, message))

    def pop(self, now: float) -> Outgoing | None:
        """Take out the next message that may go now."""
        later = self._later
        while later and later[0][0] <= now:
            message = heapq.heappop(later)[2]
            if self._messages.get(message.uuid) is message:
                message.due = None
                self.push(message, now)
        while self._ready:
            message = heapq.heappop(self._ready)[2]
            if self._messages.get(message.uuid) is not message:
                continue  # withdrawn meanwhile
            if (held := self._held.get(message.chat)) is not None:
                held.append(message)
                continue
            del self._messages[message.uuid]
            return message
        return None

    def remove(self, message: UUID) -> Outgoing | None:
        """Withdraw a message; None when it is not here (any more)."""
        return self._messages.pop(message, None)

    def hold(self, chat: str) -> None:
        """Keep this chat's messages back."""
        self._held.setdefault(chat, [])

    def unhold(self, chat: str, now: float) -> None:
        """Let them go again, in their order."""
        for message in self._held.pop(chat, ()):
            if self._messages.get(message.uuid) is message:
                self.push(message, now)

    def clear(self) -> list[Outgoing]:
        """Take everything out."""
        messages = [*self._messages.values()]
        self._messages.clear()
        self._ready.clear()
        self._later.clear()
        self._held.clear()
        return messages

    def take_expired(self, now: float) -> list[Outgoing]:
        """Take out what may no longer be sent."""
        expired = [m for m in self._messages.values() if m.expire is not None and m.expire <= now]
        for message in expired:
            del self._messages[message.uuid]
        return expired

    def next_due(self) -> float | None:
        """When the next scheduled message is due; None without one."""
        while self._later and self._messages.get(self._later[0][2].uuid) is not self._later[0][2]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None
