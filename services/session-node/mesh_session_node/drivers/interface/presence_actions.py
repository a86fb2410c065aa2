"""Acts of the moment: who is online, and what becomes of a call that rings."""

from __future__ import annotations

from typing import Protocol


class PresenceActions(Protocol):
    """Acts that hold as long as the connection stands."""

    async def show_online(self, *, online: bool) -> None:
        """Show the account as online, or not."""

    async def watch_presence(self, person: str) -> None:
        """Be told whether a person is online, now and when it changes: a network that knows it tells it at
        once, as a `PresenceShown`.
        """


class CallActions(Protocol):
    """Acts on calls to the account."""

    async def reject_call(self, call_id: str, caller: str) -> None:
        """Reject a call; nothing where it has ended. The network says no more of it to this connection, or
        that it has ended.
        """
