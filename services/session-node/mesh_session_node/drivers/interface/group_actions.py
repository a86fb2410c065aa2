"""Acts about groups and communities. A community is a group too: what is here of groups works at its address
as well.

What the account may not do raises `Refused`: UNKNOWN_CHAT for what there is not, NOT_A_MEMBER, NOT_AN_ADMIN
(of a community's end: who is not its owner), FULL, INVITE_ENDED, RESTRICTED, RATE_LIMITED. What fails for
some people only is answered as their `MemberFailure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesh_session_node.drivers.interface.groups import (
    Created,
    GroupChange,
    GroupInfo,
    Invite,
    InviteLink,
    Joined,
    JoinRequest,
    LinkedGroup,
    MemberFailure,
    NewGroup,
)
from mesh_session_node.drivers.interface.pictures import Picture
from sessionmesh.v1 import group_pb2


class GroupActions(Protocol):
    """Acts about groups."""

    async def list_groups(self) -> Sequence[GroupInfo]:
        """Every group and community that the account is in, with their members where the network tells them
        along.
        """

    async def get_group(self, group: str) -> GroupInfo:
        """A group that the account is in, with its members."""

    async def create_group(self, new: NewGroup) -> Created:
        """Make a group with the account as its owner. Other than most acts it makes another one each time,
        but where the network knows the token again.
        """

    async def change_group(self, group: str, change: GroupChange) -> None:
        """Change one field: exactly one of `change` is not None, and neither of the two of notices."""

    async def set_group_picture(self, group: str, picture: bytes) -> str:
        """Have a group show a JPEG; empty: no picture. The network's id of it; "" without one."""

    async def group_picture(self, group: str, *, preview: bool) -> Picture | None:
        """The picture that a group shows, or a small one; None: it shows none."""

    async def change_members(
        self, group: str, action: group_pb2.GroupMemberAction.ValueType, people: Sequence[str]
    ) -> Sequence[MemberFailure]:
        """Add, remove, promote or demote people. Who is so already is no failure."""

    async def leave_group(self, group: str) -> None:
        """Leave a group. Raises `Refused` NOT_A_MEMBER or UNKNOWN_CHAT where the account is not in it."""

    async def group_invite(self, group: str, *, reset: bool) -> InviteLink:
        """The invite link of a group; with `reset` a new one, and the old one ends: each time."""

    async def preview_invite(self, invite: Invite) -> GroupInfo:
        """What the network shows of the group that an invite leads to."""

    async def join_group(self, invite: Invite) -> Joined:
        """Join by an invite; also where the account is in the group already."""

    async def list_join_requests(self, group: str) -> Sequence[JoinRequest]:
        """Who asks to join, in no order."""

    async def answer_join_requests(
        self, group: str, people: Sequence[str], *, approve: bool
    ) -> Sequence[MemberFailure]:
        """Take or refuse people who ask to join. Who does not ask is `Refusal.UNKNOWN_PERSON`."""


class CommunityActions(Protocol):
    """Acts about communities."""

    async def create_community(self, new: NewGroup) -> GroupInfo:
        """Make a community with the account as its owner, and its group for announcements. Of `new`, only
        the token, name, description and `rules.join_approval` count. Repeats are as with `create_group`.
        """

    async def link_group(self, community: str, group: str) -> None:
        """Link a group that the account administers to a community that it administers. One that is linked to
        it already stays so.
        """

    async def unlink_group(self, community: str, group: str) -> None:
        """Take a group out of a community. One that is not linked to it stays so."""

    async def community_groups(self, community: str) -> Sequence[LinkedGroup]:
        """The groups of a community, in no order, also those that the account is not in."""

    async def leave_community(self, community: str) -> None:
        """Leave a community and all of its groups. Raises as `leave_group` does."""

    async def deactivate_community(self, community: str) -> None:
        """End a community for everyone; its groups stay, unlinked."""
