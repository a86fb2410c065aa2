"""ProfileService: what an account shows of itself, and to whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import TypeVar

from asyncpg.pgproto.pgproto import UUID

from mesh_core import validation
from mesh_core.database.requests import RecordKind
from mesh_core.errors import FailedPrecondition
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.calls.contacts.profile_validation import (
    MAX_ABOUT,
    MAX_PROFILE_NAME,
    check_business,
    check_privacy,
)
from mesh_session_node.calls.pictures import jpeg_of
from mesh_session_node.context.locks import Locks
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.contact_actions import MAX_PICTURE_BYTES
from mesh_session_node.drivers.interface.content import person_of
from mesh_session_node.inbound.bounds import fit
from mesh_session_node.journal import AccountRecord
from mesh_session_node.store.pictures import Pictures
from mesh_session_node.store.records import RecordStore
from sessionmesh.v1 import profile_pb2 as pb
from sessionmesh.v1 import profile_pb2_grpc

Resource = TypeVar("Resource", pb.BusinessProfile, pb.PrivacySettings)
PROFILE_FIELDS = ("name", "about", "picture_media_id")
BUSINESS_FIELDS = ("description", "street_address", "email", "websites", "vertical", "hours")
PRIVACY_FIELDS = tuple(name for name in pb.PrivacySettings.DESCRIPTOR.fields_by_name if name != "etag")


class ProfileService(profile_pb2_grpc.ProfileServiceServicer):
    """Asks the network each time; one account's changes are made one after the other."""

    def __init__(self, calls: AccountCalls, records: RecordStore, pictures: Pictures) -> None:
        self._calls = calls
        self._records = records
        self._pictures = pictures
        self._turns = Locks[UUID]()

    async def GetProfile(self, request: pb.GetProfileRequest, context: Context) -> pb.GetProfileResponse:
        session = await self._calls.session(request.account_id, context)
        return pb.GetProfileResponse(profile=await self._profile(session))

    async def UpdateProfile(
        self, request: pb.UpdateProfileRequest, context: Context
    ) -> pb.UpdateProfileResponse:
        session = await self._calls.session(request.account_id, context)
        fields, given = validation.field_mask(request.update_mask, PROFILE_FIELDS), request.profile
        if "name" in fields:
            validation.required_text("profile.name", given.name, MAX_PROFILE_NAME)
        if "about" in fields:
            validation.text("profile.about", given.about, MAX_ABOUT)
        async with self._turn(session):
            if given.etag:
                validation.check_etag(given.etag, (await self._profile(session)).etag)
            if "picture_media_id" in fields:
                field = "profile.picture_media_id"
                picture = await jpeg_of(
                    self._pictures, session, field, given.picture_media_id, MAX_PICTURE_BYTES
                )
                await self._calls.act(session, Capability.PROFILE, lambda link: link.set_picture(picture))
                await self._keep_picture(session, given.picture_media_id)
            if "name" in fields:
                await self._calls.act(session, Capability.PROFILE, lambda link: link.set_name(given.name))
            if "about" in fields:
                await self._calls.act(session, Capability.PROFILE, lambda link: link.set_about(given.about))
            return pb.UpdateProfileResponse(profile=await self._profile(session))

    async def GetBusinessProfile(
        self, request: pb.GetBusinessProfileRequest, context: Context
    ) -> pb.GetBusinessProfileResponse:
        session = await self._calls.session(request.account_id, context)
        profile = await self._business(session)
        return pb.GetBusinessProfileResponse(business_profile=profile)

    async def UpdateBusinessProfile(
        self, request: pb.UpdateBusinessProfileRequest, context: Context
    ) -> pb.UpdateBusinessProfileResponse:
        session = await self._calls.session(request.account_id, context)
        fields = validation.field_mask(request.update_mask, BUSINESS_FIELDS)
        check_business("business_profile", request.business_profile, fields)
        async with self._turn(session):
            present = await self._business(session)
            if present is None:
                raise FailedPrecondition("the account is no business on the network", "REFUSED_BY_NETWORK")
            validation.check_etag(request.business_profile.etag, present.etag)
            changed = _only(request.business_profile, fields)
            await self._calls.act(
                session,
                Capability.EDIT_BUSINESS_PROFILE,
                lambda link: link.set_business_profile(changed, fields),
            )
            return pb.UpdateBusinessProfileResponse(business_profile=await self._business(session))

    async def GetPrivacySettings(
        self, request: pb.GetPrivacySettingsRequest, context: Context
    ) -> pb.GetPrivacySettingsResponse:
        session = await self._calls.session(request.account_id, context)
        return pb.GetPrivacySettingsResponse(privacy_settings=await self._privacy(session))

    async def UpdatePrivacySettings(
        self, request: pb.UpdatePrivacySettingsRequest, context: Context
    ) -> pb.UpdatePrivacySettingsResponse:
        session = await self._calls.session(request.account_id, context)
        fields = validation.field_mask(request.update_mask, PRIVACY_FIELDS)
        check_privacy("privacy_settings", request.privacy_settings, fields)
        async with self._turn(session):
            if request.privacy_settings.etag:
                validation.check_etag(request.privacy_settings.etag, (await self._privacy(session)).etag)
            changed = _only(request.privacy_settings, fields)
            await self._calls.act(session, Capability.PRIVACY, lambda link: link.set_privacy(changed, fields))
            return pb.UpdatePrivacySettingsResponse(privacy_settings=await self._privacy(session))

    # ---

    def _turn(self, session: Session) -> asyncio.Lock:
        return self._turns.of(session.context.ref.uuid)

    async def _profile(self, session: Session) -> pb.Profile:
        shown = await self._calls.act(session, Capability.PROFILE, lambda link: link.own_profile())
        profile = pb.Profile(name=shown.name, about=shown.about, picture_id=shown.picture_id)
        fit(profile)
        own = session.context.own
        profile.person.CopyFrom(person_of(_own_address(session), own, profile.name))
        if profile.picture_id:
            for record in await self._records.of_keys(
                session.context.ref.uuid, RecordKind.OWN_PICTURE, [_OWN]
            ):
                picture = pb.ProfilePicture.FromString(record.value)
                if picture.picture_id == profile.picture_id:
                    profile.picture_media_id = picture.media_id
        profile.etag = validation.etag_of(profile)
        return profile

    async def _business(self, session: Session) -> pb.BusinessProfile | None:
        own = _own_address(session)
        found = await self._calls.act(
            session, Capability.BUSINESS_PROFILES, lambda link: link.business_profile(own), about=own
        )
        if found is None:
            return None
        profile = pb.BusinessProfile()
        profile.CopyFrom(found)
        fit(profile)
        profile.etag = validation.etag_of(profile)
        return profile

    async def _privacy(self, session: Session) -> pb.PrivacySettings:
        found = await self._calls.act(session, Capability.PRIVACY, lambda link: link.privacy())
        settings = pb.PrivacySettings()
        settings.CopyFrom(found)
        fit(settings)
        settings.etag = validation.etag_of(settings)
        return settings

    async def _keep_picture(self, session: Session, media_id: str) -> None:
        """Remember which media the picture is that was set now."""
        shown = await self._calls.act(session, Capability.PROFILE, lambda link: link.own_profile())
        picture = pb.ProfilePicture(media_id=media_id, picture_id=shown.picture_id)
        value = picture.SerializeToString() if media_id and shown.picture_id else None
        row = AccountRecord(RecordKind.OWN_PICTURE, _OWN, "", value, time.time_ns() // 1000)
        await in_time(self._calls.write(session, row))


def _own_address(session: Session) -> str:
    own = session.context.own
    return f"phone:{own.phone}" if own.phone else f"user:{own.user_id}"


def _only(resource: Resource, fields: Collection[str]) -> Resource:
    """A copy with these fields alone."""
    chosen = type(resource)()
    chosen.CopyFrom(resource)
    for descriptor in resource.DESCRIPTOR.fields:
        if descriptor.name not in fields:
            chosen.ClearField(descriptor.name)  # type: ignore[arg-type]  # one of its own
    return chosen


_OWN = "own"
