"""What accounts are told of their groups: whoever is in one when it happens, the one who does it, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import Group, Request
from mesh_simulator.groups.shown import Shown
from mesh_simulator.messages.notices import Notices
from sessionmesh.simnet.v1 import wire_pb2 as wire


class GroupNews:
    """Tells them. `actor` is the phone number of who did it; empty: nobody knows."""

    def __init__(self, directory: Directory, notices: Notices) -> None:
        self._directory = directory
        self._notices = notices
        self._shown = Shown(directory)

    def entered(self, group: Group, phones: Iterable[str], actor: str) -> None:
        """These came into the group, and are told of it whole."""
        for account in self._accounts(phones):
            entered = wire.GroupEntered(group=self._shown.whole(group, account.phone), time_us=_now())
            if actor:
                entered.actor.CopyFrom(self._shown.person(actor, account.phone))
            self._notices.offer(account, wire.Notice(group_entered=entered))

    def changed(self, group: Group, actor: str, change: wire.GroupChanged) -> None:
        """Something of the group changed."""
        change.group_id, change.time_us = group.group_id, _now()

        def told(viewer: str) -> wire.Notice:
            notice = wire.Notice(group_changed=change)
            if actor:
                notice.group_changed.actor.CopyFrom(self._shown.person(actor, viewer))
            return notice

        self._tell(group.members, told)

    def members(
        self,
        group: Group,
        change: wire.MemberChange.ValueType,
        phones: Sequence[str],
        actor: str,
        *,
        method: wire.JoinMethod.ValueType = wire.JOIN_METHOD_UNSPECIFIED,
        also: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        """Something happened to members, of which all are told that are left, and `also` those."""

        def told(viewer: str) -> wire.Notice:
            changed = wire.MembersChanged(
                group_id=group.group_id,
                change=change,
                members=[self._shown.person(phone, viewer) for phone in phones],
                time_us=_now(),
                method=method,
            )
            if actor:
                changed.actor.CopyFrom(self._shown.person(actor, viewer))
            return wire.Notice(members_changed=changed)

        self._tell([phone for phone in (*group.members, *also) if phone not in without], told)

    def requested(self, group: Group, phone: str, request: Request, *, withdrawn: bool = False) -> None:
        """Somebody asks to join, or does not any more: administrators are told."""

        def told(viewer: str) -> wire.Notice:
            shown = self._shown.request(phone, request, viewer)
            requested = wire.JoinRequested(group_id=group.group_id, request=shown, withdrawn=withdrawn)
            return wire.Notice(join_requested=requested)

        self._tell([member for member, admin in group.members.items() if admin], told)

    def linked(self, community: Group, group: Group, actor: str, *, unlinked: bool = False) -> None:
        """A group was linked to a community, or unlinked: those in either are told."""

        def told(viewer: str) -> wire.Notice:
            shown = [self._shown.linked(group, viewer)]
            changed = wire.CommunityGroupsChanged(
                community_id=community.group_id,
                time_us=_now(),
                linked=() if unlinked else shown,
                unlinked=shown if unlinked else (),
                actor=self._shown.person(actor, viewer),
            )
            return wire.Notice(community_groups_changed=changed)

        self._tell(community.members, told)
        linked_to = "" if unlinked else community.group_id
        self.changed(group, actor, wire.GroupChanged(community_id=linked_to))

    def ended(self, community: Group, actor: str) -> None:
        """A community ended."""

        def told(viewer: str) -> wire.Notice:
            ended = wire.CommunityEnded(
                community_id=community.group_id, time_us=_now(), actor=self._shown.person(actor, viewer)
            )
            return wire.Notice(community_ended=ended)

        self._tell(community.members, told)

    def _tell(self, phones: Iterable[str], told: Callable[[str], wire.Notice]) -> None:
        for account in self._accounts(phones):
            self._notices.offer(account, told(account.phone))

    def _accounts(self, phones: Iterable[str]) -> list[Account]:
        found = (self._directory.by_phone.get(phone) for phone in phones)
        return [account for account in found if account is not None]


def _now() -> int:
    return time.time_ns() // 1000
