"""Acts about people."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.drivers.interface.contact_actions import BlockedPerson, NumberStatus
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from mesh_session_node.drivers.whatsapp_web.encoding import identity_of
from sessionmesh.internal.v1 import linked_device_pb2 as pb


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


def _blocked(identity: Identity) -> BlockedPerson:
    address = f"phone:{identity.phone}" if identity.phone else f"hidden:{identity.hidden_id}"
    return BlockedPerson(address, identity)
