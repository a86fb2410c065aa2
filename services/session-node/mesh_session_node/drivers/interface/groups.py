"""What passes between a session and a driver about groups and communities.

Addresses are canonical ones: of groups and communities `group:ID`, of people what the network names them by.
Times are microseconds since the epoch; 0: not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import Refusal
from sessionmesh.v1 import group_pb2


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody, by an address and all that the network tells of them."""

    address: str
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group."""

    person: Named
    role: group_pb2.GroupRole.ValueType = group_pb2.GROUP_ROLE_MEMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRules:
    """How a group behaves; `disappear_seconds` 0: messages stay."""

    announce_only: bool = False
    locked: bool = False
    join_approval: bool = False
    member_add_mode: group_pb2.GroupMemberAddMode.ValueType = group_pb2.GROUP_MEMBER_ADD_MODE_UNSPECIFIED
    history_for_new_members: bool = False
    disappear_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfo:
    """A group or a community, as the network tells of it. `members` None: it does not say who they are, as of
    a group that the account is not in. `picture_id` None: it does not say; "": there is no picture.

    `parent`: it is a community, and `announcement_group` its group for announcements, "" where the network
    does not say. `community` is the one that it is linked to, `announcements`: as that one's group for
    announcements.
    """

    address: str
    name: str
    description: str = ""
    rules: GroupRules = GroupRules()
    own_role: group_pb2.GroupRole.ValueType = group_pb2.GROUP_ROLE_UNSPECIFIED
    members: Sequence[Member] | None = None
    member_count: int | None = None
    creator: Named | None = None
    create_time: int = 0
    picture_id: str | None = None
    parent: bool = False
    announcement_group: str = ""
    community: str = ""
    announcements: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGroup:
    """A group or community to be made. `token` names the making: where the network can tell, the same token
    again makes nothing, and finds what was made. `members` are addresses, without the account.
    """

    token: str
    name: str
    description: str = ""
    members: Sequence[str] = ()
    rules: GroupRules = GroupRules()
    community: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """What is changed of a group: whatever is not None. An empty `description` is none any more."""

    name: str | None = None
    description: str | None = None
    announce_only: bool | None = None
    locked: bool | None = None
    join_approval: bool | None = None
    member_add_mode: group_pb2.GroupMemberAddMode.ValueType | None = None
    history_for_new_members: bool | None = None
    disappear_seconds: int | None = None
    picture_id: str | None = None
    """Of notices only: the network's id of another picture; "": there is none any more."""
    community: str | None = None
    """Of notices only: the community that it is linked to now; "": none any more."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite to one person, as it stands in a message: `inviter` is the address of who invites."""

    group: str
    code: str
    inviter: str
    expire_time: int = 0


@dataclass(frozen=True, slots=True)
class InviteLink:
    """The invite of a group for everybody: its code, and the web address to share."""

    code: str
    url: str


Invite = str | Invitation
"""What leads into a group: the code of its invite link, or an invitation."""


@dataclass(frozen=True, slots=True)
class MemberFailure:
    """Why something was not done for one person, who is named as they were in the call. `invitation` invites
    them instead, where their privacy refuses being added (`Refusal.NOT_ALLOWED_BY_PERSON`).
    """

    person: str
    refusal: Refusal
    detail: str = ""
    invitation: Invitation | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """A group that was made, and who could not be added: nobody where it was made before with this token."""

    group: GroupInfo
    failures: Sequence[MemberFailure] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """Where an invite led. `pending`: an administrator has to consent first."""

    group: str
    pending: bool = False


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Somebody who asks to join. `added_by` is the member who wants to add them, with method ADDED."""

    requester: Named
    time: int = 0
    method: group_pb2.GroupJoinMethod.ValueType = group_pb2.GROUP_JOIN_METHOD_UNSPECIFIED
    added_by: Named | None = None


@dataclass(frozen=True, slots=True)
class LinkedGroup:
    """A group of a community. `joined` None: the network does not say whether the account is in it."""

    address: str
    name: str
    announcements: bool = False
    joined: bool | None = None
    member_count: int | None = None
