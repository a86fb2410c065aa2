"""Acts about the account itself: what it shows, and to whom."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sessionmesh.v1.profile_pb2 import BusinessProfile, PrivacySettings


@dataclass(frozen=True, slots=True)
class OwnProfile:
    """What the account shows of itself; "" for what it has not. `picture_id` is the network's."""

    name: str
    about: str
    picture_id: str


class ProfileActions(Protocol):
    """Acts about the account itself. `fields` are names of the message's fields: the others stay."""

    async def own_profile(self) -> OwnProfile:
        """What the account shows now."""

    async def set_name(self, name: str) -> None:
        """Show this name."""

    async def set_about(self, about: str) -> None:
        """Show this text; "": none."""

    async def set_picture(self, picture: bytes) -> None:
        """Show this picture, a JPEG; b"": none."""

    async def set_business_profile(self, profile: BusinessProfile, fields: Collection[str]) -> None:
        """Change what the account shows as a business. A field that the network lacks, and an account that is
        no business, raise `Refused` OTHER.
        """

    async def privacy(self) -> PrivacySettings:
        """To whom the account shows what; what the network lacks, or cannot say, is unset."""

    async def set_privacy(self, settings: PrivacySettings, fields: Collection[str]) -> None:
        """Show it to these people."""
