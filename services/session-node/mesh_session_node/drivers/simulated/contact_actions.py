"""Acts about people."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.drivers.interface.contact_actions import BlockedPerson, NumberStatus
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.simulated.asking import Asking
from mesh_session_node.drivers.simulated.encoding import identity_of
from sessionmesh.simnet.v1 import wire_pb2 as wire


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
