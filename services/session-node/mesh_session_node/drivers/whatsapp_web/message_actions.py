"""Acts on messages, and what the network takes no more of them which it does not say itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_session_node.drivers.interface.content import Reference, is_channel
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from mesh_session_node.drivers.whatsapp_web.encoding import refer
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1 import message_pb2

EDIT_SECONDS = 15 * 60
"""For how long the network's apps let a message be edited; others pass later edits over."""
REVOKE_SECONDS = 60 * 3600
"""The same for taking one's own message back."""
POST_SECONDS = 30 * 86_400
"""For how long a post in a channel can be edited, and taken back."""


class WebMessageActions(Calling):
    """Implements `MessageActions`."""

    __slots__ = ()

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        _check_time(target, POST_SECONDS if is_channel(target.chat) else EDIT_SECONDS)
        call = pb.EditMessageCall(network_message_id=network_id, message=payload)
        refer(call.target, target)
        await self.call(pb.DeviceCall(edit_message=call))

    async def revoke(self, network_id: str, target: Reference) -> None:
        if is_channel(target.chat):
            _check_time(target, POST_SECONDS)
        elif not target.sender:
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


class WebPresenceActions(Calling):
    """Implements `PresenceActions` and `CallActions`."""

    __slots__ = ()

    async def show_online(self, *, online: bool) -> None:
        await self.call(pb.DeviceCall(set_online=pb.SetOnlineCall(online=online)))

    async def watch_presence(self, person: str) -> None:
        await self.call(pb.DeviceCall(watch_presence=pb.WatchPresenceCall(person=person)))

    async def reject_call(self, call_id: str, caller: str) -> None:
        await self.call(pb.DeviceCall(reject_call=pb.RejectCallCall(call_id=call_id, caller=caller)))


def _check_time(target: Reference, most: int) -> None:
    if target.time and time.time() - target.time / 1e6 > most:
        raise Refused(Refusal.TOO_LATE)


def _instant(micros: int) -> Timestamp:
    instant = Timestamp()
    instant.FromMicroseconds(micros)
    return instant
