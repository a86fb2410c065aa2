"""Acts on messages, and acts of the moment."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.drivers.simulated.asking import Asking
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import message_pb2


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
        await self.change_app_state(f"star/{target.chat}/{target.network_id}", b"1" if starred else b"")

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        value = b"with media" if with_media else b"1"
        await self.change_app_state(f"deleted/{target.chat}/{target.network_id}", value)

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        kind = wire.RECEIPT_KIND_PLAYED if played else wire.RECEIPT_KIND_READ
        for network_id in network_ids:
            receipt = wire.Receipt(id=network_id, kind=kind, chat=chat, participant=sender)
            self.write(wire.Frame(receipt=receipt))

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        self.write(wire.Frame(typing=wire.Typing(chat=chat, state=_TYPING[state])))


class SimulatedPresenceActions(Asking):
    """Implements `PresenceActions` and `CallActions`."""

    __slots__ = ()

    async def show_online(self, *, online: bool) -> None:
        await self.ask(wire.Query(show_online=wire.ShowOnline(online=online)))

    async def watch_presence(self, person: str) -> None:
        await self.ask(wire.Query(watch_presence=wire.WatchPresence(address=person)))

    async def reject_call(self, call_id: str, caller: str) -> None:
        await self.ask(wire.Query(reject_call=wire.RejectCall(call_id=call_id, caller=caller)))


def _change(network_id: str, target: Reference) -> wire.ChangeMessage:
    return wire.ChangeMessage(
        id=network_id, chat=target.chat, message_id=target.network_id, sender=target.sender
    )


_TYPING = {
    message_pb2.TYPING_STATE_PAUSED: wire.TYPING_STATE_PAUSED,
    message_pb2.TYPING_STATE_TYPING: wire.TYPING_STATE_TYPING,
    message_pb2.TYPING_STATE_RECORDING: wire.TYPING_STATE_RECORDING,
}
