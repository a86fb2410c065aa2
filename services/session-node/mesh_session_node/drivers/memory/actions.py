"""What a link does at the network in memory beside sending: it is noted, and refused as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refused
from sessionmesh.v1 import message_pb2


@dataclass(frozen=True, slots=True)
class Act:
    """What was asked for: the name of the protocol's method, and its arguments."""

    name: str
    arguments: tuple[Any, ...]


class MemoryMessageActions:
    """Implements `MessageActions`."""

    def __init__(self) -> None:
        self.ended: ConnectionEnded | None = None
        self.acts: list[Act] = []
        """What was done, in order."""
        self.refusal: Refused | None = None
        """While set, nothing is done, and this is why."""

    def done(self, name: str, *arguments: Any) -> None:
        """Note an act. Raises `Refused`, `ConnectionEnded`."""
        if self.ended is not None:
            raise self.ended
        if self.refusal is not None:
            raise self.refusal
        self.acts.append(Act(name, arguments))

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        self.done("edit", network_id, target, payload)

    async def revoke(self, network_id: str, target: Reference) -> None:
        self.done("revoke", network_id, target)

    async def pin(self, network_id: str, target: Reference, seconds: int) -> None:
        self.done("pin", network_id, target, seconds)

    async def star(self, target: Reference, *, starred: bool) -> None:
        self.done("star", target, starred)

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        self.done("delete_for_me", target, with_media)

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        self.done("mark_read", chat, sender, tuple(network_ids), played)

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        self.done("show_typing", chat, state)
