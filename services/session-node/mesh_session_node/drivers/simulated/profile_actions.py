"""Acts about the account itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from google.protobuf.duration_pb2 import Duration

from mesh_session_node.drivers.interface.content import Blob
from mesh_session_node.drivers.interface.profile_actions import OwnProfile
from mesh_session_node.drivers.simulated.asking import Asking
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1.profile_pb2 import BusinessProfile, PrivacyAudience, PrivacySettings


class SimulatedProfileActions(Asking):
    """Implements `ProfileActions`."""

    __slots__ = ()

    async def own_profile(self) -> OwnProfile:
        shown = (await self.ask(wire.Query(get_profile=wire.GetProfile()))).own_profile
        return OwnProfile(shown.push_name, shown.about, shown.picture_id)

    async def set_name(self, name: str) -> None:
        await self.ask(wire.Query(change_profile=wire.ChangeProfile(push_name=name)))

    async def set_about(self, about: str) -> None:
        await self.ask(wire.Query(change_profile=wire.ChangeProfile(about=about)))

    async def set_picture(self, picture: bytes) -> None:
        ref = ""
        if picture:
            ref = (await self.upload("image", _pieces(picture))).ref
        await self.ask(wire.Query(change_profile=wire.ChangeProfile(picture_ref=ref)))

    async def set_business_profile(self, profile: BusinessProfile, fields: Collection[str]) -> None:
        change = wire.ChangeBusinessProfile(
            profile=wire.BusinessProfile.FromString(profile.SerializeToString()), fields=fields
        )
        await self.ask(wire.Query(change_business_profile=change))

    async def privacy(self) -> PrivacySettings:
        told = (await self.ask(wire.Query(get_privacy=wire.GetPrivacy()))).privacy
        settings = PrivacySettings(read_receipts=told.read_receipts)
        for field in AUDIENCES:
            if (audience := getattr(told, field)) in PrivacyAudience.values():
                setattr(settings, field, audience)
        if told.default_disappear_seconds:
            settings.default_disappear_after.seconds = told.default_disappear_seconds
        return settings

    async def set_privacy(self, settings: PrivacySettings, fields: Collection[str]) -> None:
        change = wire.PrivacySettings(
            **{field: getattr(settings, field) for field in fields if field in (*AUDIENCES, "read_receipts")}
        )
        if "default_disappear_after" in fields:
            after: Duration = settings.default_disappear_after
            change.default_disappear_seconds = after.seconds
        await self.ask(wire.Query(change_privacy=wire.ChangePrivacy(settings=change)))

    async def upload(self, _kind: str, pieces: AsyncIterator[bytes]) -> Blob:
        """As `Link.upload`."""
        raise NotImplementedError


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


AUDIENCES = ("last_seen", "online", "picture", "about", "status", "groups_add", "calls")
"""Fields of the settings that say who."""
