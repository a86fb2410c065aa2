"""Queries about groups and communities."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_simulator.accounts.account import Account
from mesh_simulator.accounts.directory import Directory
from mesh_simulator.accounts.group import Group
from mesh_simulator.accounts.queries import Handlers, done, error
from mesh_simulator.connections.blobs import BlobStore
from mesh_simulator.groups.communities import Communities
from mesh_simulator.groups.groups import Groups
from mesh_simulator.groups.membership import Failed, GroupRefused
from mesh_simulator.groups.shown import Shown
from sessionmesh.simnet.v1 import wire_pb2 as wire

MAX_GROUPS = 200
"""Of one answer to `list_groups`."""
MAX_PICTURE_BYTES = 1024 * 1024


class GroupQueries:
    """Answers them, for accounts and for people who have none."""

    def __init__(
        self, directory: Directory, blobs: BlobStore, groups: Groups, communities: Communities
    ) -> None:
        self._directory = directory
        self._blobs = blobs
        self._groups = groups
        self._communities = communities
        self._shown = Shown(directory)

    def handlers(self) -> Handlers:
        """By the kind of query."""
        return dict.fromkeys(_HANDLERS, self._handle)

    def _handle(self, account: Account, query: wire.Query) -> wire.Answer:
        return self.answer(account.phone, query)

    def answer(self, phone: str, query: wire.Query) -> wire.Answer:
        """What somebody is answered, who acts in groups."""
        handler = _HANDLERS.get(query.WhichOneof("kind") or "")
        if handler is None:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "no query about groups")
        try:
            answer = handler(self, phone, query)
        except GroupRefused as refused:
            return error(query, refused.reason, str(refused))
        answer.id = query.id
        return answer

    def _get_group(self, phone: str, query: wire.Query) -> wire.Answer:
        return self._whole(phone, self._groups.group(phone, query.get_group.group_id))

    def _list_groups(self, phone: str, query: wire.Query) -> wire.Answer:
        behind = [one for one in self._groups.of(phone) if one.group_id > query.list_groups.after]
        shown = [self._shown.outline(group, phone) for group in behind[:MAX_GROUPS]]
        return wire.Answer(groups=wire.GroupList(groups=shown, more=len(behind) > MAX_GROUPS))

    def _create_group(self, phone: str, query: wire.Query) -> wire.Answer:
        group, failures = self._groups.create(phone, query.create_group)
        answer = self._whole(phone, group)
        answer.group.failures.extend(self._failures(phone, group, failures))
        return answer

    def _change_members(self, phone: str, query: wire.Query) -> wire.Answer:
        change = query.change_members
        group = self._groups.group(phone, change.group_id)
        if change.remove and [self._directory.phone_at(one) for one in change.remove] == [phone]:
            self._groups.leave(phone, change.group_id)
        elif change.remove:
            self._groups.change_members(phone, change.group_id, wire.MEMBER_ACTION_REMOVE, change.remove)
        if change.add:
            self._groups.change_members(phone, change.group_id, wire.MEMBER_ACTION_ADD, change.add)
        return self._whole(phone, group)

    def _change_group(self, phone: str, query: wire.Query) -> wire.Answer:
        ref = query.change_group.picture_ref
        if ref and (ref not in self._blobs or len(self._blobs.get(ref) or b"") > MAX_PICTURE_BYTES):
            raise GroupRefused(wire.QUERY_ERROR_REASON_MALFORMED, "no such picture, or too large")
        group = self._groups.change(phone, query.change_group)
        return wire.Answer(group=self._shown.outline(group, phone))

    def _change_group_members(self, phone: str, query: wire.Query) -> wire.Answer:
        change = query.change_group_members
        failures = self._groups.change_members(phone, change.group_id, change.action, change.people)
        return self._failed(phone, change.group_id, failures)

    def _leave_group(self, phone: str, query: wire.Query) -> wire.Answer:
        self._groups.leave(phone, query.leave_group.group_id)
        return done(query, None)

    def _get_invite(self, phone: str, query: wire.Query) -> wire.Answer:
        asked = query.get_invite
        return wire.Answer(invite=self._groups.invite(phone, asked.group_id, reset=asked.reset))

    def _preview_invite(self, phone: str, query: wire.Query) -> wire.Answer:
        group, _ = self._groups.invited_to(phone, query.preview_invite)
        return wire.Answer(group=self._shown.outline(group, phone))

    def _join_group(self, phone: str, query: wire.Query) -> wire.Answer:
        group, pending = self._groups.join(phone, query.join_group)
        return wire.Answer(joined=wire.GroupJoined(group_id=group.group_id, pending=pending))

    def _list_join_requests(self, phone: str, query: wire.Query) -> wire.Answer:
        group = self._groups.group(phone, query.list_join_requests.group_id, admin=True)
        shown = [self._shown.request(who, request, phone) for who, request in group.requests.items()]
        return wire.Answer(join_requests=wire.JoinRequestList(requests=shown))

    def _answer_join_requests(self, phone: str, query: wire.Query) -> wire.Answer:
        answered = query.answer_join_requests
        return self._failed(phone, answered.group_id, self._groups.answer(phone, answered))

    def _get_group_picture(self, phone: str, query: wire.Query) -> wire.Answer:
        group = self._groups.group(phone, query.get_group_picture.group_id)
        return wire.Answer(
            group_picture=wire.GroupPicture(picture_id=group.picture_id, ref=group.picture_ref)
        )

    def _link_group(self, phone: str, query: wire.Query) -> wire.Answer:
        self._communities.link(phone, query.link_group)
        return done(query, None)

    def _list_community_groups(self, phone: str, query: wire.Query) -> wire.Answer:
        groups = self._communities.groups(phone, query.list_community_groups.community_id)
        shown = [self._shown.linked(group, phone) for group in groups]
        return wire.Answer(community_groups=wire.CommunityGroupList(groups=shown))

    def _leave_community(self, phone: str, query: wire.Query) -> wire.Answer:
        self._communities.leave(phone, query.leave_community.group_id)
        return done(query, None)

    def _deactivate_community(self, phone: str, query: wire.Query) -> wire.Answer:
        self._communities.deactivate(phone, query.deactivate_community.community_id)
        return done(query, None)

    def _whole(self, phone: str, group: Group) -> wire.Answer:
        return wire.Answer(group=self._shown.whole(group, phone))

    def _failed(self, phone: str, group_id: str, failures: Sequence[Failed]) -> wire.Answer:
        shown = self._failures(phone, self._directory.groups[group_id], failures)
        return wire.Answer(member_failures=wire.MemberFailures(failures=shown))

    def _failures(self, phone: str, group: Group, failures: Sequence[Failed]) -> list[wire.MemberFailure]:
        shown = []
        for failed in failures:
            failure = wire.MemberFailure(person=failed.address, reason=failed.reason)
            if (invite := group.invites.get(failed.code)) is not None:
                failure.invitation.group_id, failure.invitation.code = group.group_id, failed.code
                failure.invitation.inviter = self._directory.address_of(phone)
                failure.invitation.expire_time_us = invite.expire_time_us
            shown.append(failure)
        return shown


_HANDLERS = {
    "answer_join_requests": GroupQueries._answer_join_requests,
    "change_group": GroupQueries._change_group,
    "change_group_members": GroupQueries._change_group_members,
    "change_members": GroupQueries._change_members,
    "create_group": GroupQueries._create_group,
    "deactivate_community": GroupQueries._deactivate_community,
    "get_group": GroupQueries._get_group,
    "get_group_picture": GroupQueries._get_group_picture,
    "get_invite": GroupQueries._get_invite,
    "join_group": GroupQueries._join_group,
    "leave_community": GroupQueries._leave_community,
    "leave_group": GroupQueries._leave_group,
    "link_group": GroupQueries._link_group,
    "list_community_groups": GroupQueries._list_community_groups,
    "list_groups": GroupQueries._list_groups,
    "list_join_requests": GroupQueries._list_join_requests,
    "preview_invite": GroupQueries._preview_invite,
}
