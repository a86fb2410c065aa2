"""What a link does at the simulated network beside sending: questions by number, whose answers or refusals
follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mesh_session_node.drivers.interface.capabilities import BlockedPerson, NumberStatus
from mesh_session_node.drivers.interface.content import Identity, Reference
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.drivers.simulated.encoding import identity_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import message_pb2


class Asking:
    """What the actions need of the link."""

    __slots__ = ()

    async def ask(self, query: wire.Query) -> wire.Answer:
        """The answer to a question. Raises `Refused`, `ConnectionEnded`, `TimeoutError`."""
        raise NotImplementedError

    def write(self, frame: wire.Frame) -> None:
        """Send a frame."""
        raise NotImplementedError


class SimulatedMessageActions(Asking):
    """Implements `MessageActions`."""

    __slots__ = ()

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        change = _change(network_id, target)
        change.edit = payload
        await self.ask(wire.Query(change_message=change))

    async def revoke(self, network_id: str, target: Reference) -> None:
        change = _change(network_id, target)
        change.revoke = True
        await self.ask(wire.Query(change_message=change))

    async def pin(self, network_id: str, target: Reference, seconds: int) -> None:
        change = _change(network_id, target)
        change.pin_seconds = seconds
        await self.ask(wire.Query(change_message=change))

    async def star(self, target: Reference, *, starred: bool) -> None:
        await self._change_app_state(f"star/{target.chat}/{target.network_id}", b"1" if starred else b"")

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        value = b"with media" if with_media else b"1"
        await self._change_app_state(f"deleted/{target.chat}/{target.network_id}", value)

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        kind = wire.RECEIPT_KIND_PLAYED if played else wire.RECEIPT_KIND_READ
        for network_id in network_ids:
            receipt = wire.Receipt(id=network_id, kind=kind, chat=chat, participant=sender)
            self.write(wire.Frame(receipt=receipt))

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        self.write(wire.Frame(typing=wire.Typing(chat=chat, state=_TYPING[state])))

    async def _change_app_state(self, name: str, value: bytes) -> None:
        await self.ask(wire.Query(change_app_state=wire.ChangeAppState(name=name, value=value)))


class SimulatedContactActions(Asking):
    """Implements `ContactActions`."""

    __slots__ = ()

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        answer = await self.ask(wire.Query(number_check=wire.NumberCheck(phones=phones)))
        return [
            NumberStatus(
                number.phone,
                number.registered,
                Identity(user_id=number.user_id, hidden_id=number.hidden_id, username=number.username),
            )
            for number in answer.number_check.numbers
        ]

    async def set_blocked(self, person: str, *, blocked: bool) -> None:
        await self.ask(wire.Query(set_blocked=wire.SetBlocked(address=person, blocked=blocked)))

    async def list_blocked(self) -> Sequence[BlockedPerson]:
        answer = await self.ask(wire.Query(list_blocked=wire.ListBlocked()))
        return [BlockedPerson(one.address, identity_of(one.identity)) for one in answer.blocked.people]


def refused(error: wire.QueryError) -> Refused:
    """What the network says of a question that it does not answer."""
    return Refused(_REFUSALS.get(error.reason, Refusal.OTHER), error.message, error.retry_after_ms / 1000)


def _change(network_id: str, target: Reference) -> wire.ChangeMessage:
    return wire.ChangeMessage(
        id=network_id, chat=target.chat, message_id=target.network_id, sender=target.sender
    )


_TYPING = {
    message_pb2.TYPING_STATE_PAUSED: wire.TYPING_STATE_PAUSED,
    message_pb2.TYPING_STATE_TYPING: wire.TYPING_STATE_TYPING,
    message_pb2.TYPING_STATE_RECORDING: wire.TYPING_STATE_RECORDING,
}
_REFUSALS: Mapping[wire.QueryErrorReason.ValueType, Refusal] = {
    wire.QUERY_ERROR_REASON_NOT_FOUND: Refusal.UNKNOWN_CHAT,
    wire.QUERY_ERROR_REASON_FORBIDDEN: Refusal.NOT_AN_ADMIN,
    wire.QUERY_ERROR_REASON_NOT_A_MEMBER: Refusal.NOT_A_MEMBER,
    wire.QUERY_ERROR_REASON_NOT_AN_ADMIN: Refusal.NOT_AN_ADMIN,
    wire.QUERY_ERROR_REASON_TOO_LATE: Refusal.TOO_LATE,
    wire.QUERY_ERROR_REASON_FULL: Refusal.FULL,
    wire.QUERY_ERROR_REASON_INVITE_ENDED: Refusal.INVITE_ENDED,
    wire.QUERY_ERROR_REASON_UNKNOWN_PERSON: Refusal.UNKNOWN_PERSON,
    wire.QUERY_ERROR_REASON_NOT_ALLOWED_BY_PERSON: Refusal.NOT_ALLOWED_BY_PERSON,
    wire.QUERY_ERROR_REASON_RATE_LIMITED: Refusal.RATE_LIMITED,
    wire.QUERY_ERROR_REASON_RESTRICTED: Refusal.RESTRICTED,
    wire.QUERY_ERROR_REASON_UNKNOWN_MESSAGE: Refusal.UNKNOWN_MESSAGE,
}
