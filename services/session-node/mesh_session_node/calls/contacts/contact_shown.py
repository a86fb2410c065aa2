"""The calls of ContactService about what people show: their pictures, and companies' business profiles."""

from __future__ import annotations

from google.protobuf.message import Message

from mesh_core import addresses, validation
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix, decode
from mesh_core.kept.answers import Kept, KeptAnswers
from mesh_core.metrics.caches import hits, misses
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.inbound.bounds import fit
from mesh_session_node.journal import AccountRecord
from mesh_session_node.store.pictures import KEPT_AS, Pictures, picture_name
from sessionmesh.v1 import contact_pb2 as pb
from sessionmesh.v1.profile_pb2 import ProfilePicture


class ContactShown:
    """Part of `ContactService`. What the network answered is good for some hours."""

    _calls: AccountCalls
    _kept: KeptAnswers
    _pictures: Pictures

    async def GetContactPicture(
        self, request: pb.GetContactPictureRequest, context: Context
    ) -> pb.GetContactPictureResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        name = picture_name(session.context.ref.uuid, person, preview=request.preview)
        known = pb.GetContactPictureResponse()
        there = await self._known(session, KEPT_AS, name, known)
        if there and (
            not known.HasField("picture")
            or await self._pictures.is_there(session.context.ref.tenant, known.picture.media_id)
        ):
            hits("pictures").inc()
            return known
        misses("pictures").inc()
        found = await self._calls.act(
            session,
            Capability.PICTURES,
            lambda link: link.picture(person, preview=request.preview, known=""),
            about=person,
        )
        response = pb.GetContactPictureResponse()
        if found is not None and found.data:
            picture = ProfilePicture(picture_id=found.picture_id)
            fit(picture)
            picture.media_id = await self._pictures.keep(session.context.ref.tenant, session.id, found.data)
            picture.fetch_time.GetCurrentTime()
            response.picture.CopyFrom(picture)
            await in_time(self._calls.write(session, _given(person, picture, preview=request.preview)))
        await self._keep(session, KEPT_AS, name, response)
        return response

    async def GetContactBusinessProfile(
        self, request: pb.GetContactBusinessProfileRequest, context: Context
    ) -> pb.GetContactBusinessProfileResponse:
        session = await self._calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        response = pb.GetContactBusinessProfileResponse()
        if await self._known(session, "businesses", person, response):
            hits("businesses").inc()
            return response
        misses("businesses").inc()
        found = await self._calls.act(
            session, Capability.BUSINESS_PROFILES, lambda link: link.business_profile(person), about=person
        )
        if found is not None:
            response.business_profile.CopyFrom(found)
            fit(response.business_profile)
            response.business_profile.etag = validation.etag_of(response.business_profile)
        await self._keep(session, "businesses", person, response)
        return response

    async def _known(self, session: Session, what: str, name: str, into: Message) -> bool:
        """Whether the network has answered this before; the answer."""
        known = await self._kept.known(_whose(session, what), [name])
        if name not in known:
            return False
        into.ParseFromString(known[name])
        return True

    async def _keep(self, session: Session, what: str, name: str, answer: Message) -> None:
        await self._kept.keep(_whose(session, what), {name: answer.SerializeToString()})


def _given(person: str, picture: ProfilePicture, *, preview: bool) -> AccountRecord:
    """What is stored of a picture that an account was given, so that it goes with the person."""
    media = decode(Prefix.MEDIA, picture.media_id, "media_id").bytes
    member, micros = "preview" if preview else "image", picture.fetch_time.ToMicroseconds()
    return AccountRecord(RecordKind.CONTACT_PICTURE, person, member, media, micros)


def _whose(session: Session, what: str) -> Kept:
    return Kept(session.context.ref.tenant, session.context.driver.name, what)
