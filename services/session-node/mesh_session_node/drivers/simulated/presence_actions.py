"""Acts of the moment: who is online, and what becomes of a call that rings."""

from __future__ import annotations

from mesh_session_node.drivers.simulated.asking import Asking
from sessionmesh.simnet.v1 import wire_pb2 as wire


class SimulatedPresenceActions(Asking):
    """Implements `PresenceActions` and `CallActions`."""

    __slots__ = ()

    async def show_online(self, *, online: bool) -> None:
        await self.ask(wire.Query(show_online=wire.ShowOnline(online=online)))

    async def watch_presence(self, person: str) -> None:
        await self.ask(wire.Query(watch_presence=wire.WatchPresence(address=person)))

    async def reject_call(self, call_id: str, caller: str) -> None:
        await self.ask(wire.Query(reject_call=wire.RejectCall(call_id=call_id, caller=caller)))
