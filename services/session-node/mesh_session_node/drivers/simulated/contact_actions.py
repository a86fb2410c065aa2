"""Acts about people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from mesh_session_node.drivers.interface.contact_actions import (
    MAX_PICTURE_BYTES,
    BlockedPerson,
    NumberStatus,
    PersonShown,
    Picture,
)
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable
from mesh_session_node.drivers.simulated.asking import Asking
from mesh_session_node.drivers.simulated.encoding import identity_of
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1.profile_pb2 import BusinessProfile


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

    async def look_up_person(self, person: str) -> PersonShown:
        answer = await self.ask(wire.Query(look_up_person=wire.LookUpPerson(address=person)))
        shown = answer.person_shown
        return PersonShown(
            identity_of(shown.identity),
            shown.push_name,
            shown.about,
            shown.picture_id,
            shown.verified_name,
            shown.business,
        )

    async def resolve_people(self, people: Sequence[str]) -> Sequence[Identity | None]:
        answer = await self.ask(wire.Query(resolve_people=wire.ResolvePeople(addresses=people)))
        return [identity_of(one) if one.ByteSize() else None for one in answer.resolved.people]

    async def save_contact(self, person: str, full_name: str, first_name: str) -> None:
        saved = wire.SaveContact(address=person, full_name=full_name, first_name=first_name)
        await self.ask(wire.Query(save_contact=saved))

    async def delete_contact(self, person: str) -> None:
        await self.ask(wire.Query(delete_contact=wire.DeleteContact(address=person)))

    async def picture(self, person: str, *, preview: bool, known: str) -> Picture | None:
        asked = wire.GetPicture(address=person, known=known)
        found = (await self.ask(wire.Query(get_picture=asked))).picture
        if not found.picture_id:
            return None
        if not found.ref:
            return Picture(found.picture_id, b"")
        data = bytearray()
        try:
            async for piece in self.fetch(wire.Blob(ref=found.ref).SerializeToString()):
                data += piece
                if len(data) > MAX_PICTURE_BYTES:
                    return None
        except BlobUnavailable:  # it was changed meanwhile
            return None
        return Picture(found.picture_id, bytes(data))

    async def business_profile(self, person: str) -> BusinessProfile | None:
        asked = wire.GetBusinessProfile(address=person)
        answer = await self.ask(wire.Query(get_business_profile=asked))
        if not answer.HasField("business_profile"):
            return None
        return BusinessProfile.FromString(answer.business_profile.SerializeToString())

    def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        """As `Link.fetch`."""
        raise NotImplementedError
