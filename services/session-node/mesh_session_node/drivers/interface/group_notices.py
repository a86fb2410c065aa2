"""What a network tells by itself about groups and communities: what others did, or the account on its other
devices; what the account did through this link may be told too. `actor` is who did it, None where the network
does not say; the account by an address of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_session_node.drivers.interface.groups import (
    GroupChange,
    GroupInfo,
    JoinRequest,
    LinkedGroup,
    Named,
)
from sessionmesh.v1 import group_pb2


@dataclass(frozen=True, slots=True)
class GroupEntered:
    """The account came into a group or community, which is told whole, with its members."""

    group: GroupInfo
    time: int
    actor: Named | None = None


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """Something of a group or community changed: whatever of `change` is not None."""

    group: str
    change: GroupChange
    time: int
    actor: Named | None = None


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """People came, went or changed their role in a group or community; the account may be one of them, by
    any of its addresses. `reason` is the network's word for why, "" where it has none.
    """

    group: str
    change: group_pb2.GroupMemberChange.ValueType
    members: Sequence[Named]
    time: int
    actor: Named | None = None
    method: group_pb2.GroupJoinMethod.ValueType = group_pb2.GROUP_JOIN_METHOD_UNSPECIFIED
    reason: str = ""


@dataclass(frozen=True, slots=True)
class JoinRequested:
    """Somebody asks to join a group, or does not any more (`withdrawn`)."""

    group: str
    request: JoinRequest
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class CommunityGroupsChanged:
    """Groups were linked to a community, or unlinked."""

    community: str
    time: int
    linked: Sequence[LinkedGroup] = ()
    unlinked: Sequence[LinkedGroup] = ()
    actor: Named | None = None


@dataclass(frozen=True, slots=True)
class CommunityEnded:
    """A community was ended for everyone; its groups stay, unlinked."""

    community: str
    time: int
    actor: Named | None = None


GroupNotice = (
    GroupEntered | GroupChanged | MembersChanged | JoinRequested | CommunityGroupsChanged | CommunityEnded
)
"""Everything that a network may tell of groups and communities."""
