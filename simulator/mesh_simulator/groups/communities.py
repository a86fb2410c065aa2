"""What people do in communities. People are phone numbers here."""

from __future__ import annotations

from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import Group
from mesh_simulator.groups.groups import Groups
from mesh_simulator.groups.membership import GroupRefused
from mesh_simulator.groups.news import GroupNews
from sessionmesh.simnet.v1 import wire_pb2 as wire


class Communities:
    """Every method takes who acts first, and raises `GroupRefused`."""

    def __init__(self, directory: Directory, groups: Groups, news: GroupNews) -> None:
        self._directory = directory
        self._groups = groups
        self._news = news

    def groups(self, phone: str, community_id: str) -> list[Group]:
        """The groups of a community, the one for announcements first."""
        community = self._community(phone, community_id)
        linked = [
            group for group in self._directory.groups.values() if group.community_id == community.group_id
        ]
        return sorted(linked, key=lambda group: (not group.announcements, group.group_id))

    def link(self, phone: str, link: wire.LinkGroup) -> None:
        """Link a group to a community, or unlink it; what is so already stays so."""
        community = self._community(phone, link.community_id, admin=True)
        group = self._groups.group(phone, link.group_id, admin=not link.unlink)
        linked = group.community_id == community.group_id
        if link.unlink != linked:
            return
        if group.announcements or group.parent or (group.community_id and not linked):
            raise GroupRefused(
                wire.QUERY_ERROR_REASON_FORBIDDEN, "this group can be linked to no community, or taken out"
            )
        group.community_id = "" if link.unlink else community.group_id
        self._directory.save_group(group)
        self._news.linked(community, group, phone, unlinked=link.unlink)
        if not link.unlink:
            self._groups.enter_community(community, list(group.members), phone)

    def leave(self, phone: str, community_id: str) -> None:
        """Leave a community and all of its groups."""
        community = self._community(phone, community_id)
        for group in self.groups(phone, community_id):
            if phone in group.members:
                self._groups.leave(phone, group.group_id)
        self._groups.leave(phone, community.group_id)

    def deactivate(self, phone: str, community_id: str) -> None:
        """End a community; its groups stay, unlinked, but for the one for announcements."""
        community = self._community(phone, community_id)
        if phone != community.owner:
            raise GroupRefused(wire.QUERY_ERROR_REASON_NOT_AN_ADMIN, "only its owner ends a community")
        for group in self.groups(phone, community_id):
            if not group.announcements:
                group.community_id = ""
                self._directory.save_group(group)
                self._news.linked(community, group, phone, unlinked=True)
        self._news.ended(community, phone)
        for group_id in (community.announcement_group_id, community_id):
            group = self._directory.groups[group_id]
            group.members.clear()
            group.community_id, group.invite_code = "", ""
            self._directory.save_group(group)

    def _community(self, phone: str, community_id: str, *, admin: bool = False) -> Group:
        community = self._groups.group(phone, community_id, admin=admin)
        if not community.parent:
            raise GroupRefused(wire.QUERY_ERROR_REASON_NOT_FOUND, "no such community")
        return community
