"""Acts about the account itself."""

from __future__ import annotations

from collections.abc import Collection

from mesh_session_node.drivers.interface.profile_actions import OwnProfile
from mesh_session_node.drivers.whatsapp_web.calling import Calling
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1.profile_pb2 import BusinessProfile, PrivacySettings


class WebProfileActions(Calling):
    """Implements `ProfileActions`."""

    __slots__ = ()

    async def own_profile(self) -> OwnProfile:
        shown = (await self.call(pb.DeviceCall(get_profile=pb.GetProfileCall()))).profile
        return OwnProfile(shown.push_name, shown.about, shown.picture_id)

    async def set_name(self, name: str) -> None:
        await self._change(pb.ChangeProfileCall(push_name=name))

    async def set_about(self, about: str) -> None:
        await self._change(pb.ChangeProfileCall(about=about))

    async def set_picture(self, picture: bytes) -> None:
        await self._change(pb.ChangeProfileCall(picture=picture))

    async def set_business_profile(self, profile: BusinessProfile, fields: Collection[str]) -> None:
        change = pb.ChangeBusinessProfileCall(profile=profile, fields=fields)
        await self.call(pb.DeviceCall(change_business_profile=change))

    async def privacy(self) -> PrivacySettings:
        return (await self.call(pb.DeviceCall(get_privacy=pb.GetPrivacyCall()))).privacy

    async def set_privacy(self, settings: PrivacySettings, fields: Collection[str]) -> None:
        change = pb.ChangePrivacyCall(settings=settings, fields=fields)
        await self.call(pb.DeviceCall(change_privacy=change))

    async def _change(self, change: pb.ChangeProfileCall) -> None:
        await self.call(pb.DeviceCall(change_profile=change))
