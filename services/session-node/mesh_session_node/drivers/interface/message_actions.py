"""Acts on messages that were sent or came, what is shown in their chats, and acts of the moment: who is
online, and what becomes of a call that rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesh_session_node.drivers.interface.content import Reference
from sessionmesh.v1 import message_pb2


class MessageActions(Protocol):
    """Acts on messages; `target` is the message, of which `network_id`, `chat` and `sender` are given."""

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        """A message of the account says this from now on: `payload` is from the driver's `encode`, without a
        file where it has one. `network_id` is the network's id of the change. Also how a live location ends,
        with END_LIVE_LOCATION.
        """

    async def revoke(self, network_id: str, target: Reference) -> None:
        """Take a message back for everybody: the account's own, or as an administrator of its group
        anybody's. `network_id` is as above.
        """

    async def pin(self, network_id: str, target: Reference, seconds: int) -> None:
        """Pin a message for everybody in its chat, for so long; 0: it is not pinned any more."""

    async def star(self, target: Reference, *, starred: bool) -> None:
        """Star a message on the account's devices, or take the star away."""

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        """Delete a message on the account's own devices."""

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        """Tell one person that their messages of one chat were read, or played."""

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        """Show in a chat what the account does."""


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
