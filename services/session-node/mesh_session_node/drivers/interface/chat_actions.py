"""Acts on chats and labels: what an account's devices have in common, and what its phone still has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh_session_node.drivers.interface.content import Incoming, Reference

FOR_EVER = 253_402_300_799_000_000
"""Microseconds since the epoch of 9999-12-31T23:59:59Z: muted until then is muted for ever."""
MAX_HISTORY_PAGE = 50
"""Messages that are asked of the phone at once."""


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """A label of an account; `color` is the network's number, None where there is none."""

    id: str
    name: str
    color: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Messages of one chat, newest first, all marked as `history`. `exhausted`: there are no older ones.
    `oldest` is where the next page begins, None for the last message of this one: phones give some, too, that
    are none by themselves, such as reactions.
    """

    messages: Sequence[Incoming]
    exhausted: bool
    oldest: Reference | None = None


class ChatActions(Protocol):
    """Acts on chats. `last` is the chat's last message that the account knows of, which the network's other
    devices are told, as what comes later is not meant; None where there is none.
    """

    async def archive_chat(self, chat: str, last: Reference | None, *, archived: bool) -> None:
        """Put a chat away, which also unpins it, or take it back."""

    async def mute_chat(self, chat: str, until: int) -> None:
        """Mute a chat until then, in microseconds since the epoch; 0: it is not muted any more."""

    async def pin_chat(self, chat: str, *, pinned: bool) -> None:
        """Put a chat at the top, or back among the others."""

    async def mark_chat(self, chat: str, last: Reference | None, *, unread: bool) -> None:
        """Mark a chat as unread, or as read, on the account's devices. Nobody else is told."""

    async def clear_chat(self, chat: str, last: Reference | None) -> None:
        """Delete a chat's messages on the account's devices."""

    async def delete_chat(self, chat: str, last: Reference | None) -> None:
        """Delete a chat with its messages on the account's devices."""

    async def set_disappearing(self, chat: str, seconds: int) -> None:
        """Messages of a chat of two disappear after so long, which the other person is told; 0: never."""

    async def put_label(self, label: LabelFacts) -> None:
        """Make a label, or change it."""

    async def delete_label(self, label: LabelFacts) -> None:
        """Delete a label, which comes off everything that has it."""

    async def label_chat(self, label_id: str, chat: str, *, labelled: bool) -> None:
        """Put a label on a chat, or take it off."""

    async def label_message(self, label_id: str, target: Reference, *, labelled: bool) -> None:
        """Put a label on a message, or take it off."""

    async def fetch_history(self, chat: str, before: Reference, most: int) -> HistoryPage:
        """Messages of a chat that its phone still has, from before a message; of a chat without messages
        `before` has no id, and the time to begin at. At most `most`, which is at most `MAX_HISTORY_PAGE`.
        Raises `TimeoutError` where the phone does not answer.
        """
