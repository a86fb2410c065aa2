"""Acts about people."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.drivers.interface.contact_actions import (
    MAX_PICTURE_BYTES,
    BlockedPerson,
    NumberStatus,
    PersonShown,
    Picture,
)
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from mesh_session_node.drivers.whatsapp_web.encoding import identity_of
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1.profile_pb2 import BusinessProfile


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

    async def look_up_person(self, person: str) -> PersonShown:
        answer = await self.call(pb.DeviceCall(look_up_person=pb.LookUpPersonCall(person=person)))
        shown = answer.person
        return PersonShown(
            identity_of(shown.identity),
            shown.identity.push_name,
            shown.about,
            shown.picture_id,
            shown.verified_name,
            shown.business,
        )

    async def resolve_people(self, people: Sequence[str]) -> Sequence[Identity | None]:
        answer = await self.call(pb.DeviceCall(resolve_people=pb.ResolvePeopleCall(people=people)))
        return [identity_of(one) if one.ByteSize() else None for one in answer.resolved]

    async def save_contact(self, person: str, full_name: str, first_name: str) -> None:
        saved = pb.SaveContactCall(person=person, full_name=full_name, first_name=first_name)
        await self.call(pb.DeviceCall(save_contact=saved))

    async def delete_contact(self, person: str) -> None:
        await self.call(pb.DeviceCall(delete_contact=pb.DeleteContactCall(person=person)))

    async def picture(self, person: str, *, preview: bool, known: str) -> Picture | None:
        asked = pb.GetPictureCall(person=person, preview=preview, known=known)
        found = (await self.call(pb.DeviceCall(get_picture=asked))).picture
        if not found.picture_id or len(found.data) > MAX_PICTURE_BYTES:
            return None
        return Picture(found.picture_id, found.data)

    async def business_profile(self, person: str) -> BusinessProfile | None:
        asked = pb.GetBusinessProfileCall(person=person)
        answer = await self.call(pb.DeviceCall(get_business_profile=asked))
        return answer.business_profile if answer.HasField("business_profile") else None


def _blocked(identity: Identity) -> BlockedPerson:
    address = f"phone:{identity.phone}" if identity.phone else f"hidden:{identity.hidden_id}"
    return BlockedPerson(address, identity)
