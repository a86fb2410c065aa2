"""Acts on chats and labels."""

from __future__ import annotations

from mesh_session_node.drivers.interface.chat_actions import FOR_EVER, HistoryPage, LabelFacts
from mesh_session_node.drivers.interface.content import Reference
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from mesh_session_node.drivers.whatsapp_web.encoding import incoming_of, micros, refer
from sessionmesh.internal.v1 import linked_device_pb2 as pb


class WebChatActions(Calling):
    """Implements `ChatActions`."""

    __slots__ = ()

    async def archive_chat(self, chat: str, last: Reference | None, *, archived: bool) -> None:
        await self._change_chat(pb.ChangeChatCall(archived=archived), chat, last)

    async def mute_chat(self, chat: str, until: int) -> None:
        await self._change_chat(pb.ChangeChatCall(mute_until_us=-1 if until >= FOR_EVER else until), chat)

    async def pin_chat(self, chat: str, *, pinned: bool) -> None:
        await self._change_chat(pb.ChangeChatCall(pinned=pinned), chat)

    async def mark_chat(self, chat: str, last: Reference | None, *, unread: bool) -> None:
        await self._change_chat(pb.ChangeChatCall(marked_unread=unread), chat, last)

    async def clear_chat(self, chat: str, last: Reference | None) -> None:
        await self._change_chat(pb.ChangeChatCall(clear=True), chat, last)

    async def delete_chat(self, chat: str, last: Reference | None) -> None:
        await self._change_chat(pb.ChangeChatCall(delete=True), chat, last)

    async def set_disappearing(self, chat: str, seconds: int) -> None:
        await self._change_chat(pb.ChangeChatCall(disappear_after_seconds=seconds), chat)

    async def put_label(self, label: LabelFacts) -> None:
        changed = pb.DeviceLabel(id=label.id, name=label.name, color=label.color)
        await self.call(pb.DeviceCall(change_label=changed))

    async def delete_label(self, label: LabelFacts) -> None:
        changed = pb.DeviceLabel(id=label.id, name=label.name, color=label.color, deleted=True)
        await self.call(pb.DeviceCall(change_label=changed))

    async def label_chat(self, label_id: str, chat: str, *, labelled: bool) -> None:
        put = pb.DeviceLabelled(label_id=label_id, chat=chat, labelled=labelled)
        await self.call(pb.DeviceCall(set_label=put))

    async def label_message(self, label_id: str, target: Reference, *, labelled: bool) -> None:
        put = pb.DeviceLabelled(
            label_id=label_id, chat=target.chat, network_message_id=target.network_id, labelled=labelled
        )
        await self.call(pb.DeviceCall(set_label=put))

    async def fetch_history(self, chat: str, before: Reference, most: int) -> HistoryPage:
        asked = pb.FetchHistoryCall(most=most)
        refer(asked.before, before)
        asked.before.chat = chat
        if before.time:
            asked.time.FromMicroseconds(before.time)
        asked.wait.FromMilliseconds(int(self.history_seconds * 1000))
        found = (await self.call(pb.DeviceCall(fetch_history=asked))).history
        if found.silent:
            raise TimeoutError("the account's phone does not answer")
        oldest = None
        if found.HasField("oldest"):
            named = found.oldest
            oldest = Reference(named.network_message_id, chat, named.sender, None, micros(found.oldest_time))
        return HistoryPage([incoming_of(one, "") for one in found.messages], found.exhausted, oldest)

    async def _change_chat(self, call: pb.ChangeChatCall, chat: str, last: Reference | None = None) -> None:
        if last is not None:
            refer(call.last, last)
            if last.time:
                call.last_time.FromMicroseconds(last.time)
        call.last.chat = chat
        await self.call(pb.DeviceCall(change_chat=call))
