"""What a linked device does beside sending: calls that the sidecar answers, and what the network takes no
more of which it does not say itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_session_node.drivers.interface.capabilities import BlockedPerson, NumberStatus
from mesh_session_node.drivers.interface.content import Identity, Reference
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.drivers.whatsapp_web.encoding import identity_of, refer, seconds
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1 import message_pb2

EDIT_SECONDS = 15 * 60
"""For how long the network's apps let a message be edited; others pass later edits over."""
REVOKE_SECONDS = 60 * 3600
"""The same for taking one's own message back."""


class Calling:
    """What the actions need of the link."""

    __slots__ = ()

    async def call(self, call: pb.DeviceCall) -> pb.DeviceCallResult:
        """What the sidecar answers. Raises `Refused`, `ConnectionEnded`, `TimeoutError`."""
        raise NotImplementedError


class WebMessageActions(Calling):
    """Implements `MessageActions`."""

    __slots__ = ()

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        _check_time(target, EDIT_SECONDS)
        call = pb.EditMessageCall(network_message_id=network_id, message=payload)
        refer(call.target, target)
        await self.call(pb.DeviceCall(edit_message=call))

    async def revoke(self, network_id: str, target: Reference) -> None:
        if not target.sender:
            _check_time(target, REVOKE_SECONDS)
        call = pb.RevokeMessageCall(network_message_id=network_id)
        refer(call.target, target)
        await self.call(pb.DeviceCall(revoke_message=call))

    async def pin(self, network_id: str, target: Reference, seconds: int) -> None:
        call = pb.PinMessageCall(network_message_id=network_id, seconds=seconds)
        refer(call.target, target)
        await self.call(pb.DeviceCall(pin_message=call))

    async def star(self, target: Reference, *, starred: bool) -> None:
        call = pb.StarMessageCall(starred=starred)
        refer(call.target, target)
        await self.call(pb.DeviceCall(star_message=call))

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        call = pb.DeleteMessageForMeCall(with_media=with_media)
        refer(call.target, target)
        if target.time:
            call.time.CopyFrom(_instant(target.time))
        await self.call(pb.DeviceCall(delete_message_for_me=call))

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        call = pb.MarkReadCall(network_message_ids=network_ids, chat=chat, sender=sender, played=played)
        await self.call(pb.DeviceCall(mark_read=call))

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        call = pb.SetTypingCall(
            chat=chat,
            typing=state in (message_pb2.TYPING_STATE_TYPING, message_pb2.TYPING_STATE_RECORDING),
            recording=state == message_pb2.TYPING_STATE_RECORDING,
        )
        await self.call(pb.DeviceCall(set_typing=call))


class WebContactActions(Calling):
    """Implements `ContactActions`."""

    __slots__ = ()

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        answer = await self.call(pb.DeviceCall(check_numbers=pb.CheckNumbersCall(phones=phones)))
        return [
            NumberStatus(number.phone, number.registered, identity_of(number.identity))
            for number in answer.numbers
        ]

    async def set_blocked(self, person: str, *, blocked: bool) -> None:
        await self.call(pb.DeviceCall(set_blocked=pb.SetBlockedCall(person=person, blocked=blocked)))

    async def list_blocked(self) -> Sequence[BlockedPerson]:
        answer = await self.call(pb.DeviceCall(list_blocked=pb.ListBlockedCall()))
        return [_blocked(identity_of(one)) for one in answer.blocked]


def refused(result: pb.DeviceCallResult) -> Refused:
    """What the network says of a call that it refused."""
    refusal = _REFUSALS.get(result.refusal, Refusal.OTHER)
    return Refused(refusal, result.error, seconds(result.retry_after))


def _blocked(identity: Identity) -> BlockedPerson:
    address = f"phone:{identity.phone}" if identity.phone else f"hidden:{identity.hidden_id}"
    return BlockedPerson(address, identity)


def _check_time(target: Reference, most: int) -> None:
    if target.time and time.time() - target.time / 1e6 > most:
        raise Refused(Refusal.TOO_LATE)


def _instant(micros: int) -> Timestamp:
    instant = Timestamp()
    instant.FromMicroseconds(micros)
    return instant


_REFUSALS: Mapping[pb.DeviceRefusal.ValueType, Refusal] = {
    pb.DEVICE_REFUSAL_UNKNOWN_MESSAGE: Refusal.UNKNOWN_MESSAGE,
    pb.DEVICE_REFUSAL_UNKNOWN_CHAT: Refusal.UNKNOWN_CHAT,
    pb.DEVICE_REFUSAL_UNKNOWN_PERSON: Refusal.UNKNOWN_PERSON,
    pb.DEVICE_REFUSAL_NOT_A_MEMBER: Refusal.NOT_A_MEMBER,
    pb.DEVICE_REFUSAL_NOT_AN_ADMIN: Refusal.NOT_AN_ADMIN,
    pb.DEVICE_REFUSAL_NOT_ALLOWED_BY_PERSON: Refusal.NOT_ALLOWED_BY_PERSON,
    pb.DEVICE_REFUSAL_FULL: Refusal.FULL,
    pb.DEVICE_REFUSAL_INVITE_ENDED: Refusal.INVITE_ENDED,
    pb.DEVICE_REFUSAL_TOO_LATE: Refusal.TOO_LATE,
    pb.DEVICE_REFUSAL_RESTRICTED: Refusal.RESTRICTED,
    pb.DEVICE_REFUSAL_RATE_LIMITED: Refusal.RATE_LIMITED,
}
