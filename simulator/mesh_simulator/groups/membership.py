"""Who is in groups: they come, go, and are made administrators. People are phone numbers here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import MAX_MEMBERS, Group, PersonalInvite, Request
from mesh_simulator.groups.news import GroupNews
from sessionmesh.simnet.v1 import wire_pb2 as wire

INVITED_FOR_US = 3 * 24 * 3600 * 1_000_000
"""How long an invite in a message is good."""

Reason = wire.QueryErrorReason


class GroupRefused(Exception):
    """It is not done; the text is for people."""

    def __init__(self, reason: wire.QueryErrorReason.ValueType, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Failed:
    """For whom it failed, by the address that they were named by, and why. `code` invites them instead."""

    address: str
    reason: wire.QueryErrorReason.ValueType
    code: str = ""


class Membership:
    """Every method for people takes who acts first, and raises `GroupRefused`."""

    def __init__(self, directory: Directory, news: GroupNews) -> None:
        self._directory = directory
        self._news = news

    def group(self, phone: str, group_id: str, *, admin: bool = False) -> Group:
        """A group that somebody is in; with `admin`, as an administrator."""
        group = self._directory.groups.get(group_id)
        if group is None:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_FOUND, "no such group")
        if phone not in group.members:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_A_MEMBER, "not in this group")
        if admin and not group.members[phone]:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_AN_ADMIN, "only administrators change a group")
        return group

    def change_members(
        self, phone: str, group_id: str, action: wire.MemberAction.ValueType, people: Sequence[str]
    ) -> list[Failed]:
        """Add, remove, promote or demote; `people` are addresses."""
        group = self.group(phone, group_id)
        if action == wire.MEMBER_ACTION_ADD:
            if group.admins_add and not group.members[phone]:
                raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_AN_ADMIN, "only administrators add")
            return self._add(phone, group, people)
        act = _ACTIONS.get(action)
        if act is None:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_MALFORMED, "nothing to do")
        self.group(phone, group_id, admin=True)
        failures, done = [], []
        for address in people:
            who = self._directory.phone_at(address)
            if who is None:
                failures.append(Failed(address, Reason.QUERY_ERROR_REASON_UNKNOWN_PERSON))
            elif who not in group.members:
                if action != wire.MEMBER_ACTION_REMOVE:
                    failures.append(Failed(address, Reason.QUERY_ERROR_REASON_NOT_A_MEMBER))
            elif who == group.owner and who != phone:
                failures.append(Failed(address, Reason.QUERY_ERROR_REASON_FORBIDDEN))
            elif act(group, who):
                done.append(who)
        if done:
            self._directory.save_group(group)
            gone = done if action == wire.MEMBER_ACTION_REMOVE else ()
            self._news.members(group, _CHANGES[action], done, phone, also=gone)
        return failures

    def leave(self, phone: str, group_id: str) -> None:
        """Leave a group; the next one administers it where nobody else does."""
        group = self.group(phone, group_id)
        del group.members[phone]
        if group.members and not any(group.members.values()):
            group.members[next(iter(group.members))] = True
        self._directory.save_group(group)
        self._news.members(group, wire.MEMBER_CHANGE_LEFT, [phone], phone, also=[phone])

    def made(self, group: Group) -> None:
        """Tell those in it of a group that the network's operator has made."""
        self._news.entered(group, group.members, "")

    def put(self, group: Group, add: Sequence[str], remove: Sequence[str]) -> None:
        """People come into a group, and leave it, at the wish of the network's operator."""
        coming = [phone for phone in dict.fromkeys(add) if phone not in group.members]
        self._enter(group, coming, "", wire.MEMBER_CHANGE_ADDED, wire.JOIN_METHOD_ADDED)
        going = [phone for phone in dict.fromkeys(remove) if phone in group.members]
        for phone in going:
            del group.members[phone]
        self._directory.save_group(group)
        if going:
            self._news.members(group, wire.MEMBER_CHANGE_REMOVED, going, "", also=going)

    # ---

    def _add_all(self, phone: str, group: Group, people: Sequence[str]) -> list[Failed]:
        """Into a group that is being made, of which nobody knows yet."""
        failures: list[Failed] = []
        for address in people:
            who = self._addable(phone, group, address, failures)
            if who is not None:
                group.members[who] = False
        return failures

    def _add(self, phone: str, group: Group, people: Sequence[str]) -> list[Failed]:
        failures: list[Failed] = []
        added: list[str] = []
        asks = group.join_approval and not group.members[phone]
        for address in people:
            who = self._addable(phone, group, address, failures, len(added))
            if who is None or who in added:
                continue
            if asks:
                self._ask(group, who, Request(_now(), wire.JOIN_METHOD_ADDED, phone))
            else:
                added.append(who)
        self._enter(group, added, phone, wire.MEMBER_CHANGE_ADDED, wire.JOIN_METHOD_ADDED)
        self._directory.save_group(group)
        return failures

    def _addable(
        self, phone: str, group: Group, address: str, failures: list[Failed], more: int = 0
    ) -> str | None:
        """Who has this address, if they can be added, and are not in the group."""
        who = self._directory.phone_at(address)
        if who is None:
            failures.append(Failed(address, Reason.QUERY_ERROR_REASON_UNKNOWN_PERSON))
        elif who in group.members:
            return None
        elif len(group.members) + more >= MAX_MEMBERS:
            failures.append(Failed(address, Reason.QUERY_ERROR_REASON_FULL))
        elif who in self._directory.unaddable:
            code = new_code()
            group.invites[code] = PersonalInvite(who, phone, _now() + INVITED_FOR_US)
            failures.append(Failed(address, Reason.QUERY_ERROR_REASON_NOT_ALLOWED_BY_PERSON, code))
        else:
            return who
        return None

    def _ask(self, group: Group, phone: str, request: Request) -> None:
        if phone not in group.requests:
            group.requests[phone] = request
            self._directory.save_group(group)
            self._news.requested(group, phone, request)

    def _enter(
        self,
        group: Group,
        phones: Sequence[str],
        actor: str,
        change: wire.MemberChange.ValueType,
        method: wire.JoinMethod.ValueType,
    ) -> None:
        """People come into a group, and into the community that it is linked to."""
        if not phones:
            return
        for phone in phones:
            group.members[phone] = False
            group.requests.pop(phone, None)
            group.invites = {code: one for code, one in group.invites.items() if one.person != phone}
        self._directory.save_group(group)
        self._news.members(group, change, phones, actor, method=method, without=phones)
        self._news.entered(group, phones, actor)
        for other_id in (group.community_id, group.announcement_group_id):
            other = self._directory.groups.get(other_id)
            coming = [] if other is None else [phone for phone in phones if phone not in other.members]
            if other is not None and coming:
                joined, by = wire.MEMBER_CHANGE_JOINED, wire.JOIN_METHOD_COMMUNITY
                self._enter(other, coming, actor, joined, by)

    def enter_community(self, community: Group, phones: Sequence[str], actor: str) -> None:
        """The members of a group that was linked to a community come into that, too."""
        coming = [phone for phone in phones if phone not in community.members]
        self._enter(community, coming, actor, wire.MEMBER_CHANGE_JOINED, wire.JOIN_METHOD_COMMUNITY)

    def _check_room(self, group: Group) -> None:
        if len(group.members) >= MAX_MEMBERS:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_FULL, "the group is full")


def _set_role(group: Group, phone: str, admin: bool) -> bool:
    changes = group.members[phone] != admin
    group.members[phone] = admin
    return changes


def _remove(group: Group, phone: str) -> bool:
    del group.members[phone]
    return True


def new_code() -> str:
    """The code of an invite, which nobody guesses."""
    return secrets.token_urlsafe(16)


def _now() -> int:
    return time.time_ns() // 1000


_ACTIONS: dict[wire.MemberAction.ValueType, Callable[[Group, str], bool]] = {
    wire.MEMBER_ACTION_REMOVE: _remove,
    wire.MEMBER_ACTION_PROMOTE: lambda group, phone: _set_role(group, phone, True),
    wire.MEMBER_ACTION_DEMOTE: lambda group, phone: _set_role(group, phone, False),
}
_CHANGES: dict[wire.MemberAction.ValueType, wire.MemberChange.ValueType] = {
    wire.MEMBER_ACTION_REMOVE: wire.MEMBER_CHANGE_REMOVED,
    wire.MEMBER_ACTION_PROMOTE: wire.MEMBER_CHANGE_PROMOTED,
    wire.MEMBER_ACTION_DEMOTE: wire.MEMBER_CHANGE_DEMOTED,
}
