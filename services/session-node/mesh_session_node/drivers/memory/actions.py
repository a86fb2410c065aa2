"""What a link does at the network in memory beside sending: it is noted, and refused as the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh_session_node.drivers.interface.contact_actions import BlockedPerson, NumberStatus
from mesh_session_node.drivers.interface.content import Identity, Reference
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refusal, Refused
from sessionmesh.v1 import message_pb2


@dataclass(frozen=True, slots=True)
class Act:
    """What was asked for: the name of the protocol's method, and its arguments."""

    name: str
    arguments: tuple[Any, ...]


class MemoryActions:
    """Implements `Acting`. `users` has the user id of each phone number that is on the network."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        self.ended: ConnectionEnded | None = None
        self.acts: list[Act] = []
        """What was done, in order."""
        self.refusal: Refused | None = None
        """While set, nothing is done, and this is why."""
        self.blocked: set[str] = set()
        """Addresses of whom the account has blocked."""

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

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        self.done("check_numbers", tuple(phones))
        users = self._users
        return [
            NumberStatus(phone, phone in users, Identity(user_id=users.get(phone, ""))) for phone in phones
        ]

    async def set_blocked(self, person: str, *, blocked: bool) -> None:
        if person.startswith("phone:") and person[6:] not in self._users:
            raise Refused(Refusal.UNKNOWN_PERSON)
        self.done("set_blocked", person, blocked)
        (self.blocked.add if blocked else self.blocked.discard)(person)

    async def list_blocked(self) -> Sequence[BlockedPerson]:
        self.done("list_blocked")
        return [BlockedPerson(person, Identity()) for person in self.blocked]
