"""Acts of the moment: who is online, and what becomes of a call that rings."""

from __future__ import annotations

from mesh_session_node.drivers.whatsapp_web.calling import Calling
from sessionmesh.internal.v1 import linked_device_pb2 as pb


class WebPresenceActions(Calling):
    """Implements `PresenceActions` and `CallActions`."""

    __slots__ = ()

    async def show_online(self, *, online: bool) -> None:
        await self.call(pb.DeviceCall(set_online=pb.SetOnlineCall(online=online)))

    async def watch_presence(self, person: str) -> None:
        await self.call(pb.DeviceCall(watch_presence=pb.WatchPresenceCall(person=person)))

    async def reject_call(self, call_id: str, caller: str) -> None:
        await self.call(pb.DeviceCall(reject_call=pb.RejectCallCall(call_id=call_id, caller=caller)))
