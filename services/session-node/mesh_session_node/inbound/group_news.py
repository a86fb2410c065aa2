"""What networks tell of groups and communities, taken into their records; what has changed by it is told by
events. What is told twice, or was done by a call and is stored already, changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    GroupEntered,
    GroupNotice,
    JoinRequested,
    MembersChanged,
)
from mesh_session_node.drivers.interface.groups import Member, Named
from mesh_session_node.inbound.group_records import (
    apply,
    changed_fields,
    community_of,
    linked_of,
    member_of,
    member_rows,
    no_member,
    no_request,
    request_of,
    rows_of,
)
from mesh_session_node.inbound.groups import (
    GroupBook,
    changed_event,
    is_account,
    seen,
    stored_as,
    told_names,
)
from mesh_session_node.journal import AccountRecord, Row
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import community_pb2, group_pb2


class GroupNews:
    """Implements `NoticeTaker`; what calls do themselves is taken here, too."""

    def __init__(self, book: GroupBook) -> None:
        self._book = book
        self._of_kinds: Mapping[type, Callable[[SessionContext, Any], Awaitable[Sequence[Row]]]] = {
            CommunityEnded: self._ended,
            CommunityGroupsChanged: self._linked,
            GroupChanged: self._changed,
            GroupEntered: self._entered,
            JoinRequested: self._requested,
            MembersChanged: self._members,
        }

    def turn(self, session: SessionContext, notice: GroupNotice) -> asyncio.Lock:
        return self._book.turn(session, _about(notice))

    async def take(self, session: SessionContext, notice: GroupNotice) -> Sequence[Row]:
        """What stores a notice, and the events that tell of it; nothing where it is no news. It holds the
        turn of the group.
        """
        return await self._of_kinds[type(notice)](session, notice)

    async def _entered(self, session: SessionContext, notice: GroupEntered) -> Sequence[Row]:
        return (await self._book.told(session, notice.group, notice.actor)).rows

    async def _changed(self, session: SessionContext, notice: GroupChanged) -> Sequence[Row]:
        before = await self._book.record(session, notice.group)
        if before is None or not before.group.own_role:
            return ()
        record = GroupRecord()
        record.CopyFrom(before)
        apply(record, notice.change)
        rows: list[Row] = [*rows_of(record, before, notice.time)]
        if changed_fields(before, record):
            rows.append(changed_event(session, before, record, notice.actor, notice.time))
        return rows

    async def _members(self, session: SessionContext, notice: MembersChanged) -> Sequence[Row]:
        group, time_ = notice.group, notice.time
        before = await self._book.record(session, group)
        known = await self._book.find(session, group, notice.members)
        own = [one for one in notice.members if is_account(session, one)]
        if notice.change in _GOING:
            return await self._gone(session, notice, before, known, own)
        role = _ROLES.get(notice.change)
        rows: list[Row] = []
        concerned = []
        for one in notice.members:
            stored = stored_as(one, known)
            if role is None and (stored is not None or is_account(session, one)):
                continue  # who is in it already, and the account, which is told of it whole
            if role is not None and stored is not None and known[stored].role == role:
                continue
            if role is not None and stored is None and _all_known(before) and not is_account(session, one):
                continue  # it is told late: they have left since
            concerned.append(one)
            member = Member(replace(one, address=stored or one.address), role or _MEMBER)
            rows += member_rows(group, member.person.address, member_of(member), time_)
            if role is None:
                rows += [no_request(group, name, time_) for name in told_names(one)]
        if not concerned:
            return ()
        if role is not None:
            rows += self._own_role(before, own, role, time_)
        else:
            rows += _counted(before, len(concerned), time_)
        return [*rows, self._told(session, notice, concerned)]

    async def _gone(
        self,
        session: SessionContext,
        notice: MembersChanged,
        before: GroupRecord | None,
        known: Mapping[str, group_pb2.GroupMember],
        own: Sequence[Named],
    ) -> Sequence[Row]:
        if own:
            if before is None or not before.group.own_role:
                return ()
            lost = await self._book.lost(session, before)
            return [*lost.rows, self._told(session, notice, own)]
        stored = {one.address: stored_as(one, known) for one in notice.members}
        if before is not None and before.members_known:
            gone = [one for one in notice.members if stored[one.address] is not None]
        else:  # who is in it is not known
            gone = [*notice.members]
        if not gone:
            return ()
        rows = [
            no_member(notice.group, address, notice.time)
            for address in stored.values()
            if address is not None
        ]
        counted = _counted(before, -len(gone), notice.time)
        return [*rows, *counted, self._told(session, notice, gone)]

    async def _requested(self, session: SessionContext, notice: JoinRequested) -> Sequence[Row]:
        asks, group = notice.request, notice.group
        kind, who, now = RecordKind.GROUP_JOIN_REQUEST, asks.requester.address, time.time_ns() // 1000
        names = told_names(asks.requester)
        known = await self._book.records.of_members(session.ref.uuid, kind, group, names)
        if bool(known) != notice.withdrawn:
            return ()
        shown = request_of(asks)
        shown.requester.CopyFrom(seen(session, asks.requester))
        event = group_pb2.GroupJoinRequestEvent(group=group, join_request=shown, withdrawn=notice.withdrawn)
        return [
            *(no_request(group, one.member, now) for one in known),
            *([] if notice.withdrawn else [AccountRecord(kind, group, who, shown.SerializeToString(), now)]),
            session.events.of("group.join_requested", now, group_join_request=event),
        ]

    async def _linked(self, session: SessionContext, notice: CommunityGroupsChanged) -> Sequence[Row]:
        kind, community, time_ = RecordKind.COMMUNITY_GROUP, notice.community, notice.time
        record = await self._book.record(session, community)
        if record is not None and not record.group.own_role:
            return ()
        told = [*notice.linked, *notice.unlinked]
        stored = await self._book.records.of_members(
            session.ref.uuid, kind, community, [one.address for one in told]
        )
        known = {one.member: bool(one.value) for one in stored}
        event = community_pb2.CommunityGroupsEvent(community=community)
        rows: list[Row] = []
        for group in notice.linked:
            if known.get(group.address) is not True:
                shown = linked_of(group)
                event.linked.append(shown)
                rows.append(AccountRecord(kind, community, group.address, shown.SerializeToString(), time_))
        for group in notice.unlinked:
            if known.get(group.address) is not False:
                event.unlinked.append(linked_of(group))
                rows.append(AccountRecord(kind, community, group.address, b"", time_))
        if not rows:
            return ()
        if notice.actor is not None:
            event.actor.CopyFrom(seen(session, notice.actor))
        return [*rows, session.events.of("community.groups_changed", time_, community_groups=event)]

    async def _ended(self, session: SessionContext, notice: CommunityEnded) -> Sequence[Row]:
        before = await self._book.record(session, notice.community)
        if before is None or not before.group.own_role:
            return ()
        lost = await self._book.lost(session, before)
        if not before.parent:  # such as its group for announcements, which ends with it
            return lost.rows
        event = community_pb2.CommunityEvent(community=community_of(lost.record))
        if notice.actor is not None:
            event.actor.CopyFrom(seen(session, notice.actor))
        return [*lost.rows, session.events.of("community.deactivated", notice.time, community=event)]

    def _own_role(
        self,
        before: GroupRecord | None,
        own: Sequence[Named],
        role: group_pb2.GroupRole.ValueType,
        time_: int,
    ) -> Sequence[Row]:
        if not own or before is None or not before.group.own_role:
            return ()
        record = GroupRecord()
        record.CopyFrom(before)
        record.group.own_role = role
        return [*rows_of(record, before, time_)]

    def _told(self, session: SessionContext, notice: MembersChanged, members: Sequence[Named]) -> Row:
        event = group_pb2.GroupMembersEvent(
            group=notice.group,
            change=notice.change,
            members=[seen(session, one) for one in members],
            method=notice.method,
            reason=notice.reason,
            includes_account=any(is_account(session, one) for one in members),
        )
        if notice.actor is not None:
            event.actor.CopyFrom(seen(session, notice.actor))
        return session.events.of("group.members_changed", notice.time, group_members=event)


def _about(notice: Any) -> str:
    """The address of the group or community that a notice is about."""
    if isinstance(notice, GroupEntered):
        return notice.group.address
    if isinstance(notice, CommunityEnded | CommunityGroupsChanged):
        return notice.community
    group: str = notice.group
    return group


def _all_known(before: GroupRecord | None) -> bool:
    return before is not None and before.members_known


def _counted(before: GroupRecord | None, more: int, time_: int) -> Sequence[Row]:
    """The group has so many members more."""
    if before is None or not more or not before.group.HasField("member_count"):
        return ()
    record = GroupRecord()
    record.CopyFrom(before)
    record.group.member_count = max(0, record.group.member_count + more)
    return [*rows_of(record, before, time_)]


_MEMBER = group_pb2.GROUP_ROLE_MEMBER
_GOING = frozenset({group_pb2.GROUP_MEMBER_CHANGE_REMOVED, group_pb2.GROUP_MEMBER_CHANGE_LEFT})
_ROLES = {
    group_pb2.GROUP_MEMBER_CHANGE_PROMOTED: group_pb2.GROUP_ROLE_ADMIN,
    group_pb2.GROUP_MEMBER_CHANGE_DEMOTED: group_pb2.GROUP_ROLE_MEMBER,
}
