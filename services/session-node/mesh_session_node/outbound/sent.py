"""The messages that were sent lately and wait in memory for their receipts."""

from __future__ import annotations

from mesh_session_node.outbound.outgoing import Outgoing

REMEMBERED_SECONDS = 20.0
"""How long an acknowledged message waits here; receipts that come later cost a query."""
MAX_DELIVERED = 32
"""Delivered messages of one account that wait here for being read."""


class SentCache:
    """Acknowledged messages by their network ids, the oldest first. Times are monotonic seconds."""

    __slots__ = ("_messages",)

    def __init__(self) -> None:
        self._messages: dict[str, tuple[float, Outgoing]] | None = None  # most accounts have none, most often

    def __len__(self) -> int:
        return len(self._messages or ())

    def add(self, out: Outgoing, now: float) -> None:
        """The network has acknowledged a message."""
        if self._messages is None:
            self._messages = {}
        self._messages[out.network_id] = (now, out)

    def find(self, network_id: str) -> Outgoing | None:
        """The message, if it is still remembered."""
        found = None if self._messages is None else self._messages.get(network_id)
        return None if found is None else found[1]

    def remove(self, network_id: str) -> None:
        """No receipt of the message is expected any more."""
        if self._messages is not None:
            self._messages.pop(network_id, None)

    def forget(self, now: float) -> None:
        """Make room: receipts of older messages are looked up."""
        messages = self._messages
        while messages:
            network_id = next(iter(messages))
            if now - messages[network_id][0] < REMEMBERED_SECONDS:
                return
            del messages[network_id]
        self._messages = None
