"""What requests about groups and communities must be like."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

from google.rpc import status_pb2

from mesh_core import addresses, validation
from mesh_core.errors import InvalidField, MeshError
from mesh_core.rpc.server.status import details_of
from mesh_session_node.account.session import Session
from mesh_session_node.calls import outcomes
from mesh_session_node.drivers.interface.content import is_one_of
from mesh_session_node.drivers.interface.groups import (
    GroupChange,
    GroupRules,
    Invitation,
    Invite,
    MemberFailure,
)
from mesh_session_node.drivers.interface.outcomes import Refused
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import group_pb2 as pb

MAX_NAME = 100
MAX_DESCRIPTION = 2_048
MAX_MEMBERS = 256
"""Of one CreateGroup or ChangeGroupMembers."""
MAX_ANSWERED = 100
"""Of one AnswerJoinRequests."""
SETTINGS = tuple(pb.GroupSettings.DESCRIPTOR.fields_by_name)
UPDATABLE = (
    "name",
    "description",
    "picture_media_id",
    "settings",
    *(f"settings.{name}" for name in SETTINGS),
)
"""Paths of UpdateGroup."""


def check_people(
    session: Session, field: str, given: Iterable[str], most: int, *, least: int = 1, own: bool = False
) -> list[str]:
    """The addresses of people, each once; the account itself is among them only with `own`."""
    people = [addresses.person(f"{field}[{at}]", one) for at, one in enumerate(given)]
    if not least <= len(people) <= most:
        raise InvalidField(field, f"must have {least} to {most} entries")
    if len({*people}) != len(people):
        raise InvalidField(field, "must not have the same entry twice")
    for at, person in enumerate(people):
        if not own and is_one_of(session.context.own, person):
            raise InvalidField(f"{field}[{at}]", "must not be the account itself")
    return people


def check_settings(field: str, settings: pb.GroupSettings) -> GroupRules:
    """How a group is to behave."""
    validation.choice(
        f"{field}.member_add_mode", settings.member_add_mode, pb.GroupMemberAddMode.values(), "a mode"
    )
    return GroupRules(
        announce_only=settings.announce_only,
        locked=settings.locked,
        join_approval=settings.join_approval,
        member_add_mode=settings.member_add_mode,
        history_for_new_members=settings.history_for_new_members,
        disappear_seconds=_timer(f"{field}.disappear_after", settings),
    )


def check_changes(group: pb.Group, paths: Collection[str], present: GroupRecord) -> list[GroupChange]:
    """The changes that a request names, one field each: all that are named by their own paths, and of
    `settings` as a whole those that differ from what is stored.
    """
    changes = []
    if "name" in paths:
        changes.append(GroupChange(name=validation.required_text("group.name", group.name, MAX_NAME)))
    if "description" in paths:
        text = validation.text("group.description", group.description, MAX_DESCRIPTION)
        changes.append(GroupChange(description=text))
    rules = check_settings("group.settings", group.settings)
    for name in SETTINGS:
        differs = getattr(group.settings, name) != getattr(present.group.settings, name)
        if f"settings.{name}" in paths or ("settings" in paths and differs):
            rule = "disappear_seconds" if name == "disappear_after" else name
            changes.append(GroupChange(**{rule: getattr(rules, rule)}))
    return changes


def check_invitation(field: str, given: pb.GroupInvitation) -> Invitation:
    """An invitation as it stands in a message."""
    expires = 0
    if given.HasField("expire_time"):
        validation.timestamp(f"{field}.expire_time", given.expire_time)
        expires = given.expire_time.ToMicroseconds()
    return Invitation(
        addresses.group(f"{field}.group", given.group),
        validation.required_text(f"{field}.code", given.code, MAX_CODE),
        addresses.person(f"{field}.inviter", given.inviter),
        expires,
    )


def check_invite(request: pb.PreviewGroupInviteRequest | pb.JoinGroupRequest) -> Invite:
    """What leads into a group."""
    kind = request.WhichOneof("invite")
    if kind is None:
        raise InvalidField("invite", "code or invitation is required")
    if kind == "invitation":
        return check_invitation("invitation", request.invitation)
    code = validation.required_text("code", request.code, MAX_CODE)
    if not code.isascii() or not code.isprintable() or " " in code:
        raise InvalidField("code", "must be the code of an invite link, or the link")
    return code


MAX_CODE = 256
"""Characters of an invite's code, or of its link."""


def failure_of(failure: MemberFailure) -> pb.GroupMemberFailure:
    """Why something was not done for one person."""
    error = outcomes.error_of(Refused(failure.refusal, failure.detail), failure.person)
    shown = pb.GroupMemberFailure(member=failure.person, error=status_of(error))
    invitation = failure.invitation
    if invitation is not None:
        shown.invitation.group, shown.invitation.code = invitation.group, invitation.code
        shown.invitation.inviter = invitation.inviter
        if invitation.expire_time > 0:
            shown.invitation.expire_time.FromMicroseconds(min(invitation.expire_time, _LAST_MICROS))
    return shown


def status_of(error: MeshError) -> status_pb2.Status:
    """An error as part of an answer."""
    return status_pb2.Status.FromString(details_of(error))


def _timer(field: str, settings: pb.GroupSettings) -> int:
    if not settings.HasField("disappear_after"):
        return 0
    given = settings.disappear_after
    if given.nanos:
        raise InvalidField(field, "must be whole seconds")
    return int(validation.duration(field, given, least=timedelta(), most=timedelta(days=90)).total_seconds())


_LAST_MICROS = 253_402_300_799_999_999
