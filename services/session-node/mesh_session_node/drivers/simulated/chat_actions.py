"""Acts on chats and labels, most of which change what the account's devices have in common."""

from __future__ import annotations

from dataclasses import replace

from mesh_session_node.drivers.interface.chat_actions import HistoryPage, LabelFacts
from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.drivers.simulated.asking import Asking
from mesh_session_node.drivers.simulated.encoding import from_wire
from sessionmesh.simnet.v1 import wire_pb2 as wire


class SimulatedChatActions(Asking):
    """Implements `ChatActions`."""

    __slots__ = ()

    async def archive_chat(self, chat: str, last: Reference | None, *, archived: bool) -> None:
        await self.change_app_state(f"archive/{chat}", b"1" if archived else b"")

    async def mute_chat(self, chat: str, until: int) -> None:
        await self.change_app_state(f"mute/{chat}", str(until).encode() if until else b"")

    async def pin_chat(self, chat: str, *, pinned: bool) -> None:
        await self.change_app_state(f"pin/{chat}", b"1" if pinned else b"")

    async def mark_chat(self, chat: str, last: Reference | None, *, unread: bool) -> None:
        await self.change_app_state(f"unread/{chat}", b"1" if unread else b"")

    async def clear_chat(self, chat: str, last: Reference | None) -> None:
        await self.change_app_state(f"clear/{chat}", b"1")

    async def delete_chat(self, chat: str, last: Reference | None) -> None:
        await self.change_app_state(f"delete/{chat}", b"1")

    async def set_disappearing(self, chat: str, seconds: int) -> None:
        timer = wire.SetDisappearing(chat=chat, seconds=seconds)
        await self.ask(wire.Query(set_disappearing=timer))

    async def put_label(self, label: LabelFacts) -> None:
        stored = wire.Label(name=label.name, color=label.color)
        await self.change_app_state(f"label/{label.id}", stored.SerializeToString())

    async def delete_label(self, label: LabelFacts) -> None:
        await self.change_app_state(f"label/{label.id}", b"")

    async def label_chat(self, label_id: str, chat: str, *, labelled: bool) -> None:
        await self.change_app_state(f"label-chat/{label_id}/{chat}", b"1" if labelled else b"")

    async def label_message(self, label_id: str, target: Reference, *, labelled: bool) -> None:
        name = f"label-message/{label_id}/{target.chat}/{target.network_id}"
        await self.change_app_state(name, b"1" if labelled else b"")

    async def fetch_history(self, chat: str, before: Reference, most: int) -> HistoryPage:
        wanted = wire.FetchHistory(
            chat=chat, before_message_id=before.network_id, before_us=before.time, most=most
        )
        answer = await self.ask(wire.Query(fetch_history=wanted))
        messages = [replace(from_wire(message), history=True) for message in answer.history.messages]
        return HistoryPage(messages, answer.history.exhausted)
