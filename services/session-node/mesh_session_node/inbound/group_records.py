"""Groups and communities as their records have them: made from what the network tells, which is bounded
before (`fitting_groups`), and shown to callers.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh_core import validation
from mesh_core.database.requests import RecordKind
from mesh_session_node.drivers.interface.content import names_of, person_of
from mesh_session_node.drivers.interface.groups import (
    GroupChange,
    GroupInfo,
    JoinRequest,
    LinkedGroup,
    Member,
    Named,
)
from mesh_session_node.journal import AccountRecord, PersonIdentity, Row
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import community_pb2, group_pb2
from sessionmesh.v1.common_pb2 import Person

KINDS = (RecordKind.GROUP, RecordKind.COMMUNITY, RecordKind.GROUP_LEFT)
"""What a group or community may be stored as: one of these."""


def record_of(info: GroupInfo, before: GroupRecord | None) -> GroupRecord:
    """The record of a group as the network has it now; what it does not tell stays as it was before."""
    record = GroupRecord()
    if before is not None:
        record.CopyFrom(before)
    group = record.group
    group.address, group.name, group.description = info.address, info.name, info.description
    rules = info.rules
    group.settings.announce_only, group.settings.locked = rules.announce_only, rules.locked
    group.settings.join_approval = rules.join_approval
    group.settings.member_add_mode = rules.member_add_mode
    group.settings.history_for_new_members = rules.history_for_new_members
    _set_timer(group.settings, rules.disappear_seconds)
    group.own_role = info.own_role
    if info.members is not None or info.member_count is not None:
        group.member_count = len(info.members or ()) if info.member_count is None else info.member_count
    if info.creator is not None:
        group.creator.CopyFrom(person_of(info.creator.address, info.creator.identity))
    if info.create_time:
        group.create_time.FromMicroseconds(info.create_time)
    group.community, group.community_announcements = info.community, info.announcements
    record.parent = info.parent
    record.announcement_group = info.announcement_group or record.announcement_group
    record.members_known |= info.members is not None
    if info.picture_id is not None:
        set_picture_id(record, info.picture_id)
    return record


def apply(record: GroupRecord, change: GroupChange) -> None:
    """Make a change of a group in its record."""
    group, settings = record.group, record.group.settings
    if change.name is not None:
        group.name = change.name
    if change.description is not None:
        group.description = change.description
    for rule in ("announce_only", "locked", "join_approval", "member_add_mode", "history_for_new_members"):
        if (value := getattr(change, rule)) is not None:
            setattr(settings, rule, value)
    if change.disappear_seconds is not None:
        _set_timer(settings, change.disappear_seconds)
    if change.picture_id is not None:
        set_picture_id(record, change.picture_id)
    if change.community is not None:
        group.community = change.community
        group.community_announcements &= bool(change.community)


def set_picture_id(record: GroupRecord, picture_id: str) -> None:
    """The group shows this picture; what the mesh has of another one is no longer it."""
    if record.group.picture_id != picture_id:
        record.group.picture_id, record.group.picture_media_id = picture_id, ""
        record.ClearField("preview_media_id")
        record.ClearField("picture_time")
        record.ClearField("preview_time")


def changed_fields(before: GroupRecord, after: GroupRecord) -> list[str]:
    """Which fields changed, as paths of UpdateGroup."""
    one, other = before.group, after.group
    paths = [name for name in ("name", "description") if getattr(one, name) != getattr(other, name)]
    if one.picture_id != other.picture_id:
        paths.append("picture_media_id")
    settings = [field.name for field in one.settings.DESCRIPTOR.fields]
    differ = [name for name in settings if getattr(one.settings, name) != getattr(other.settings, name)]
    return paths + [f"settings.{name}" for name in differ]


def kind_of(record: GroupRecord) -> RecordKind:
    """What it is stored as."""
    if not record.group.own_role:
        return RecordKind.GROUP_LEFT
    return RecordKind.COMMUNITY if record.parent else RecordKind.GROUP


def rows_of(record: GroupRecord, before: GroupRecord | None, micros: int) -> Iterator[AccountRecord]:
    """What stores a record in place of what it was before; nothing where nothing has changed."""
    record.version = 0 if before is None else before.version
    if record == before:
        return
    record.version += 1
    key = record.group.address
    if before is not None and kind_of(before) is not kind_of(record):
        yield AccountRecord(kind_of(before), key, "", None, micros)
    yield AccountRecord(kind_of(record), key, "", record.SerializeToString(), micros)


def group_of(record: GroupRecord) -> group_pb2.Group:
    """A group as callers see it."""
    shown = group_pb2.Group()
    shown.CopyFrom(record.group)
    shown.etag = validation.etag(record.version)
    return shown


def community_of(record: GroupRecord) -> community_pb2.Community:
    """A community as callers see it."""
    group = record.group
    shown = community_pb2.Community(
        address=group.address,
        name=group.name,
        description=group.description,
        announcement_group=record.announcement_group,
        join_approval=group.settings.join_approval,
        own_role=group.own_role,
    )
    if group.HasField("member_count"):
        shown.member_count = group.member_count
    if group.HasField("creator"):
        shown.creator.CopyFrom(group.creator)
    if group.HasField("create_time"):
        shown.create_time.CopyFrom(group.create_time)
    return shown


def member_rows(group: str, address: str, member: group_pb2.GroupMember, micros: int) -> Iterator[Row]:
    """What stores somebody as a member under one of their addresses, and by what else they are known."""
    yield AccountRecord(RecordKind.GROUP_MEMBER, group, address, member.SerializeToString(), micros)
    names, known = names_of(member.person), member.person
    if len(names) > 1:
        yield PersonIdentity(
            names[0], known.phone, known.user_id, known.hidden_id, known.username, known.display_name, micros
        )


def no_member(group: str, address: str, micros: int) -> AccountRecord:
    """What stores that somebody is a member no more."""
    return AccountRecord(RecordKind.GROUP_MEMBER, group, address, None, micros)


def no_request(group: str, address: str, micros: int) -> AccountRecord:
    """What stores that somebody asks to join no more."""
    return AccountRecord(RecordKind.GROUP_JOIN_REQUEST, group, address, None, micros)


def member_of(member: Member) -> group_pb2.GroupMember:
    """A member as they are stored and shown."""
    return group_pb2.GroupMember(person=person(member.person), role=member.role)


def person(named: Named) -> Person:
    """Somebody."""
    return person_of(named.address, named.identity)


def request_of(request: JoinRequest) -> group_pb2.JoinRequest:
    """Somebody who asks to join."""
    shown = group_pb2.JoinRequest(requester=person(request.requester), method=request.method)
    if request.time:
        shown.request_time.FromMicroseconds(request.time)
    if request.added_by is not None:
        shown.added_by.CopyFrom(person(request.added_by))
    return shown


def linked_of(group: LinkedGroup) -> community_pb2.CommunityGroup:
    """A group of a community."""
    shown = community_pb2.CommunityGroup(
        address=group.address, name=group.name, announcements=group.announcements, joined=bool(group.joined)
    )
    if group.member_count is not None:
        shown.member_count = group.member_count
    return shown


def _set_timer(settings: group_pb2.GroupSettings, seconds: int) -> None:
    if seconds > 0:
        settings.disappear_after.FromSeconds(seconds)
    else:
        settings.ClearField("disappear_after")
