"""What people do in groups, and who may. People are phone numbers here."""

from __future__ import annotations

import secrets
import time

from mesh_simulator.accounts.group import MAX_MEMBERS, Group, Request
from mesh_simulator.groups.membership import Failed, GroupRefused, Membership, Reason, new_code
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_SUBJECT = 100
MAX_DESCRIPTION = 2048


class Groups(Membership):
    """Every method takes who acts first, and raises `GroupRefused`."""

    def of(self, phone: str) -> list[Group]:
        """The groups that somebody is in, by id."""
        mine = [group for group in self._directory.groups.values() if phone in group.members]
        return sorted(mine, key=lambda group: group.group_id)

    def create(self, phone: str, new: wire.CreateGroup) -> tuple[Group, list[Failed]]:
        """Make a group; what the same token has made, if it has made something that is there still."""
        if new.token:
            for group in self._directory.groups.values():
                if group.token == new.token and group.owner == phone:
                    return group, []
        if len(new.subject) > MAX_SUBJECT or len(new.description) > MAX_DESCRIPTION:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_MALFORMED, "its name or description is too long")
        community = self.group(phone, new.community_id, admin=True) if new.community_id else None
        if community is not None and not community.parent:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_FOUND, "no such community")
        group = self._directory.create_group(new_group_id(), new.subject, {phone: True}, phone)
        group.token, group.description, group.parent = new.token, new.description, new.parent
        for rule in _RULES:
            setattr(group, rule, getattr(new.rules, rule))
        group.invite_code = new_code()
        if group.parent:
            group.announcement_group_id = self._announcements(phone, group).group_id
        failures = self._add_all(phone, group, new.members)
        if community is not None:
            group.community_id = community.group_id
        self._directory.save_group(group)
        self._news.entered(group, group.members, phone)
        if community is not None:
            self._news.linked(community, group, phone)
        return group, failures

    def change(self, phone: str, change: wire.ChangeGroup) -> Group:
        """Change what a group is called, shows or does."""
        kind = change.WhichOneof("change")
        group = self.group(phone, change.group_id)
        if kind is None:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_MALFORMED, "nothing to change")
        if not group.members[phone] and (kind in _OF_ADMINISTRATORS or group.locked):
            raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_AN_ADMIN, "only administrators change this")
        value = getattr(change, kind)
        if kind in _LONGEST and len(value) > _LONGEST[kind]:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_MALFORMED, f"its {kind} is too long")
        if getattr(group, kind) == value:
            return group
        setattr(group, kind, value)
        told = wire.GroupChanged()
        if kind == "picture_ref":
            group.pictures += 1
            told.picture_id = group.picture_id
        else:
            setattr(told, kind, value)
        self._directory.save_group(group)
        self._news.changed(group, phone, told)
        return group

    def invite(self, phone: str, group_id: str, *, reset: bool) -> str:
        """The code of a group's invite link."""
        group = self.group(phone, group_id, admin=True)
        if reset or not group.invite_code:
            group.invite_code = new_code()
            self._directory.save_group(group)
        return group.invite_code

    def invited_to(self, phone: str, invite: wire.Invite) -> tuple[Group, wire.JoinMethod.ValueType]:
        """Where an invite leads, and what it is."""
        if invite.WhichOneof("kind") == "invitation":
            found = self._directory.groups.get(invite.invitation.group_id)
            personal = None if found is None else found.invites.get(invite.invitation.code)
            if found is None or personal is None or personal.person != phone:
                raise GroupRefused(Reason.QUERY_ERROR_REASON_INVITE_ENDED, "no such invite")
            if personal.expire_time_us < _now():
                raise GroupRefused(Reason.QUERY_ERROR_REASON_INVITE_ENDED, "this invite has ended")
            return found, wire.JOIN_METHOD_INVITE_MESSAGE
        for group in self._directory.groups.values():
            if invite.code and group.invite_code == invite.code:
                return group, wire.JOIN_METHOD_INVITE_LINK
        raise GroupRefused(Reason.QUERY_ERROR_REASON_INVITE_ENDED, "no group has this code")

    def join(self, phone: str, invite: wire.Invite) -> tuple[Group, bool]:
        """Join by an invite; whether that waits for somebody's consent."""
        group, method = self.invited_to(phone, invite)
        if phone in group.members:
            return group, False
        if group.join_approval and method == wire.JOIN_METHOD_INVITE_LINK:
            self._ask(group, phone, Request(_now(), method))
            return group, True
        self._check_room(group)
        self._enter(group, [phone], phone, wire.MEMBER_CHANGE_JOINED, method)
        return group, False

    def answer(self, phone: str, answer: wire.AnswerJoinRequests) -> list[Failed]:
        """Take or refuse people who ask to join."""
        group = self.group(phone, answer.group_id, admin=True)
        failures: list[Failed] = []
        taken: list[str] = []
        for address in answer.people:
            who = self._directory.phone_at(address)
            request = None if who is None else group.requests.get(who)
            if who is None or request is None:
                failures.append(Failed(address, Reason.QUERY_ERROR_REASON_UNKNOWN_PERSON))
            elif answer.approve and len(group.members) + len(taken) >= MAX_MEMBERS:
                failures.append(Failed(address, Reason.QUERY_ERROR_REASON_FULL))
            else:
                del group.requests[who]
                if answer.approve:
                    taken.append(who)
                else:
                    self._news.requested(group, who, request, withdrawn=True)
        self._directory.save_group(group)
        self._enter(group, taken, phone, wire.MEMBER_CHANGE_JOINED, wire.JOIN_METHOD_INVITE_LINK)
        return failures

    def withdraw(self, phone: str, group_id: str) -> None:
        """Ask to join no more."""
        group = self._directory.groups.get(group_id)
        request = None if group is None else group.requests.pop(phone, None)
        if group is None or request is None:
            raise GroupRefused(Reason.QUERY_ERROR_REASON_NOT_FOUND, "nothing was asked")
        self._directory.save_group(group)
        self._news.requested(group, phone, request, withdrawn=True)

    # ---

    def _announcements(self, phone: str, community: Group) -> Group:
        group = self._directory.create_group(new_group_id(), community.subject, {phone: True}, phone)
        group.community_id, group.announcements, group.announce_only = community.group_id, True, True
        self._directory.save_group(group)
        self._news.entered(group, group.members, phone)
        return group


def new_group_id() -> str:
    """An id that no group has."""
    return secrets.token_hex(8)


def _now() -> int:
    return time.time_ns() // 1000


_RULES = ("announce_only", "locked", "join_approval", "admins_add", "history", "disappear_seconds")
_OF_ADMINISTRATORS = frozenset({"announce_only", "locked", "join_approval", "admins_add", "history"})
_LONGEST = {"subject": MAX_SUBJECT, "description": MAX_DESCRIPTION}
