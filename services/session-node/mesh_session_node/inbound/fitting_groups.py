"""What a network tells of groups and communities, made fit to be stored and shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    GroupEntered,
    JoinRequested,
    MembersChanged,
)
from mesh_session_node.drivers.interface.groups import (
    GroupInfo,
    GroupRules,
    JoinRequest,
    LinkedGroup,
    Member,
    Named,
)
from mesh_session_node.drivers.interface.outcomes import MAX_DETAIL
from mesh_session_node.inbound.bounds import MAX_ENTRIES, changed, fit_address, fit_text, fit_time
from mesh_session_node.inbound.fitting import fit_identity
from sessionmesh.v1 import group_pb2

MAX_MEMBERS = 5_000
"""Members of one group or community that are told, and stored."""
MAX_CHANGED = 1_024
"""Members of one change."""
MAX_NAME = 256
"""Characters of a group's name."""
MAX_DESCRIPTION = 8_192
"""Characters of what a group is about."""
MAX_PICTURE_ID = 128
T = TypeVar("T")


def fit_group(group: GroupInfo) -> GroupInfo:
    """A group with nothing in it that cannot be stored or shown."""
    members = None if group.members is None else [_member(one) for one in _cut(group.members, MAX_MEMBERS)]
    return replace(
        group,
        address=fit_address(group.address),
        name=fit_text(group.name, MAX_NAME),
        description=fit_text(group.description, MAX_DESCRIPTION),
        rules=_rules(group.rules),
        own_role=_enum(group_pb2.GroupRole, group.own_role),
        members=members,
        member_count=None if group.member_count is None else min(max(group.member_count, 0), _INT32),
        creator=_named(group.creator),
        create_time=group.create_time and fit_time(group.create_time, _now()),
        picture_id=None if group.picture_id is None else fit_text(group.picture_id, MAX_PICTURE_ID),
        announcement_group=group.announcement_group and fit_address(group.announcement_group),
        community=group.community and fit_address(group.community),
    )


def fit_request(request: JoinRequest) -> JoinRequest:
    """The same of somebody who asks to join."""
    return JoinRequest(
        fit_named(request.requester),
        request.time and fit_time(request.time, _now()),
        _enum(group_pb2.GroupJoinMethod, request.method),
        _named(request.added_by),
    )


def fit_named(person: Named) -> Named:
    """The same of somebody."""
    return Named(fit_address(person.address), fit_identity(person.identity))


def fit_linked(groups: Sequence[LinkedGroup]) -> list[LinkedGroup]:
    """The same of a community's groups."""
    return [
        replace(
            one,
            address=fit_address(one.address),
            name=fit_text(one.name, MAX_NAME),
            member_count=None if one.member_count is None else min(max(one.member_count, 0), _INT32),
        )
        for one in _cut(groups, MAX_ENTRIES)
    ]


def _entered(notice: GroupEntered) -> GroupEntered:
    return GroupEntered(fit_group(notice.group), fit_time(notice.time, _now()), _named(notice.actor))


def _changed(notice: GroupChanged) -> GroupChanged:
    change = notice.change
    seconds = change.disappear_seconds
    fitting = replace(
        change,
        name=None if change.name is None else fit_text(change.name, MAX_NAME),
        description=None if change.description is None else fit_text(change.description, MAX_DESCRIPTION),
        member_add_mode=(
            None
            if change.member_add_mode is None
            else _enum(group_pb2.GroupMemberAddMode, change.member_add_mode)
        ),
        disappear_seconds=None if seconds is None else _seconds(seconds),
        picture_id=None if change.picture_id is None else fit_text(change.picture_id, MAX_PICTURE_ID),
        community=change.community and fit_address(change.community),
    )
    return GroupChanged(
        fit_address(notice.group), fitting, fit_time(notice.time, _now()), _named(notice.actor)
    )


def _members(notice: MembersChanged) -> MembersChanged:
    return MembersChanged(
        fit_address(notice.group),
        _enum(group_pb2.GroupMemberChange, notice.change),
        [fit_named(person) for person in _cut(notice.members, MAX_CHANGED)],
        fit_time(notice.time, _now()),
        _named(notice.actor),
        _enum(group_pb2.GroupJoinMethod, notice.method),
        fit_text(notice.reason, MAX_DETAIL),
    )


def _requested(notice: JoinRequested) -> JoinRequested:
    return JoinRequested(fit_address(notice.group), fit_request(notice.request), withdrawn=notice.withdrawn)


def _linked(notice: CommunityGroupsChanged) -> CommunityGroupsChanged:
    return CommunityGroupsChanged(
        fit_address(notice.community),
        fit_time(notice.time, _now()),
        fit_linked(notice.linked),
        fit_linked(notice.unlinked),
        _named(notice.actor),
    )


def _ended(notice: CommunityEnded) -> CommunityEnded:
    return CommunityEnded(fit_address(notice.community), fit_time(notice.time, _now()), _named(notice.actor))


def _rules(rules: GroupRules) -> GroupRules:
    return replace(
        rules,
        member_add_mode=_enum(group_pb2.GroupMemberAddMode, rules.member_add_mode),
        disappear_seconds=_seconds(rules.disappear_seconds),
    )


def _member(member: Member) -> Member:
    return Member(fit_named(member.person), _enum(group_pb2.GroupRole, member.role))


def _named(person: Named | None) -> Named | None:
    return None if person is None else fit_named(person)


def _enum(kind: Any, value: Any) -> Any:
    if value in kind.values():
        return value
    changed("enum")
    return 0


def _seconds(seconds: int) -> int:
    return min(max(seconds, 0), _LONGEST_TIMER)


def _cut(values: Sequence[T], most: int) -> Sequence[T]:
    if len(values) > most:
        changed("list")
        return values[:most]
    return values


def _now() -> int:
    return time.time_ns() // 1000


_INT32 = 2**31 - 1
_LONGEST_TIMER = 366 * 86_400
OF_GROUPS: Mapping[type, Callable[[Any], Any]] = {
    CommunityEnded: _ended,
    CommunityGroupsChanged: _linked,
    GroupChanged: _changed,
    GroupEntered: _entered,
    JoinRequested: _requested,
    MembersChanged: _members,
}
"""By the kind of notice."""
