"""What the network knows of one group; a community is a group too."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_MEMBERS = 1024


@dataclass(slots=True)
class Request:
    """Somebody asks to join. `method` is a `JoinMethod` of the wire, `added_by` a phone number or empty."""

    time_us: int
    method: int
    added_by: str = ""


@dataclass(slots=True)
class PersonalInvite:
    """An invite to one person. Both are phone numbers."""

    person: str
    inviter: str
    expire_time_us: int


@dataclass(slots=True)
class Group:
    """A group. `members` maps phone numbers to whether they are administrators."""

    group_id: str
    subject: str
    create_time_us: int
    members: dict[str, bool] = field(default_factory=dict)
    owner: str = ""
    """The phone number of who made it; empty: nobody knows."""
    token: str = ""
    """What its maker's client called its making."""
    description: str = ""
    announce_only: bool = False
    locked: bool = False
    join_approval: bool = False
    admins_add: bool = False
    history: bool = False
    disappear_seconds: int = 0
    picture_ref: str = ""
    """The blob that it shows; empty: none."""
    pictures: int = 0
    """How often its picture has changed."""
    invite_code: str = ""
    requests: dict[str, Request] = field(default_factory=dict)
    """Who asks to join, by phone number, oldest first."""
    invites: dict[str, PersonalInvite] = field(default_factory=dict)
    """Those that stand in messages, by their codes."""
    parent: bool = False
    """It is a community."""
    announcement_group_id: str = ""
    """Of a community: its group for announcements."""
    community_id: str = ""
    """The community that it is linked to; empty: none."""
    announcements: bool = False
    """It is its community's group for announcements."""

    @property
    def picture_id(self) -> str:
        """Changes with the picture; empty: there is none."""
        return str(1_700_000_000 + self.pictures) if self.picture_ref else ""

    def may_write(self, phone: str) -> bool:
        """Whether somebody may write in it."""
        admin = self.members.get(phone)
        return admin is not None and (admin or not self.announce_only)
