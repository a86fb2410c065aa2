"""The calls of GroupService that make groups, and change what they are and who is in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import structlog

from mesh_core import addresses, validation
from mesh_core.database.requests import Method
from mesh_core.errors import MeshError
from mesh_session_node.account.session import Session
from mesh_session_node.calls import outcomes
from mesh_session_node.calls.account_call import Context
from mesh_session_node.calls.groups.group_calls import GroupCalls, is_outside, token_of
from mesh_session_node.calls.groups.group_validation import (
    MAX_DESCRIPTION,
    MAX_MEMBERS,
    MAX_NAME,
    UPDATABLE,
    check_changes,
    check_people,
    check_settings,
    failure_of,
)
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.group_notices import MembersChanged
from mesh_session_node.drivers.interface.groups import GroupChange, Named, NewGroup
from mesh_session_node.inbound.group_news import GroupNews
from mesh_session_node.inbound.group_records import (
    apply,
    changed_fields,
    group_of,
    rows_of,
    set_picture_id,
)
from mesh_session_node.inbound.groups import changed_event
from mesh_session_node.journal import Row
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import group_pb2 as pb

logger = structlog.get_logger(__name__)


class GroupChanges:
    """Part of `GroupService`."""

    _groups: GroupCalls
    _news: GroupNews

    async def CreateGroup(self, request: pb.CreateGroupRequest, context: Context) -> pb.CreateGroupResponse:
        session = await self._groups.calls.session(request.account_id, context)
        new = NewGroup(
            token=token_of(session, validation.request_id(request.request_id)),
            name=validation.required_text("name", request.name, MAX_NAME),
            description=validation.text("description", request.description, MAX_DESCRIPTION),
            members=check_people(session, "members", request.members, MAX_MEMBERS, least=0),
            rules=check_settings("settings", request.settings),
            community=request.community and addresses.group("community", request.community),
        )
        if new.rules.history_for_new_members:
            self._check_can(session, Capability.GROUP_HISTORY)
        if request.picture_media_id:
            self._check_can(session, Capability.GROUP_PICTURE)
        turn = AsyncExitStack()

        async def act() -> tuple[pb.CreateGroupResponse, Sequence[Row]]:
            picture = await self._groups.read_picture(session, "picture_media_id", request.picture_media_id)
            made = await self._groups.calls.act(
                session, Capability.CREATE_GROUP, lambda link: link.create_group(new), about=new.name
            )
            group = made.group
            if picture:
                group = replace(group, picture_id=await self._show_first(session, group.address, picture))
            await turn.enter_async_context(self._groups.book.turn(session.context, group.address))
            told = await self._groups.book.told(
                session.context, group, own(session), picture=request.picture_media_id
            )
            response = pb.CreateGroupResponse(
                group=group_of(told.record), failures=[failure_of(one) for one in made.failures]
            )
            return response, told.rows

        answer = pb.CreateGroupResponse
        return await self._groups.calls.answered(
            session, Method.CREATE_GROUP, request, answer, act, turn=turn
        )

    async def UpdateGroup(self, request: pb.UpdateGroupRequest, context: Context) -> pb.UpdateGroupResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group.address", request.group.address)
        paths = validation.field_mask(request.update_mask, UPDATABLE)
        check_changes(request.group, paths, GroupRecord())
        given = request.group
        async with self._groups.book.turn(session.context, group):
            before = await self._groups.stored(session, group)
            validation.check_etag(given.etag, before.version)
            changes = check_changes(given, paths, before)
            picture = b""
            if "picture_media_id" in paths:
                field = "group.picture_media_id"
                picture = await self._groups.read_picture(session, field, given.picture_media_id)
            record = GroupRecord()
            record.CopyFrom(before)
            try:
                for change in changes:
                    await self._change(session, group, change)
                    apply(record, change)
                if "picture_media_id" in paths:
                    set_picture_id(record, await self._show(session, group, picture))
                    record.group.picture_media_id = given.picture_media_id
            finally:  # what was changed before one was refused is so
                await self._groups.write(session, _changed(session, before, record))
        return pb.UpdateGroupResponse(group=group_of(record))

    async def ChangeGroupMembers(
        self, request: pb.ChangeGroupMembersRequest, context: Context
    ) -> pb.ChangeGroupMembersResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        demotes = request.action == pb.GROUP_MEMBER_ACTION_DEMOTE
        people = check_people(session, "members", request.members, MAX_MEMBERS, own=demotes)

        async def act() -> tuple[pb.ChangeGroupMembersResponse, Sequence[Row]]:
            failures = await self._groups.calls.act(
                session,
                Capability.GROUP_MEMBERS,
                lambda link: link.change_members(group, request.action, people),
                about=group,
            )
            failed = {failure.person for failure in failures}
            changed = MembersChanged(
                group,
                _CHANGES[request.action],
                [self._named(session, one) for one in people if one not in failed],
                time.time_ns() // 1000,
                own(session),
                pb.GROUP_JOIN_METHOD_ADDED
                if request.action == pb.GROUP_MEMBER_ACTION_ADD
                else pb.GROUP_JOIN_METHOD_UNSPECIFIED,
            )
            response = pb.ChangeGroupMembersResponse(failures=[failure_of(one) for one in failures])
            before = await self._groups.book.record(session.context, group)
            if before is not None and before.group.settings.join_approval and changed.method:
                return response, ()  # they may only be asked for: the network tells who comes
            return response, await self._news.take(session.context, changed)

        return await self._groups.calls.answered(
            session,
            Method.CHANGE_GROUP_MEMBERS,
            request,
            pb.ChangeGroupMembersResponse,
            act,
            turn=self._groups.book.turn(session.context, group),
        )

    async def LeaveGroup(self, request: pb.LeaveGroupRequest, context: Context) -> pb.LeaveGroupResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        async with self._groups.book.turn(session.context, group):
            before = await self._groups.book.record(session.context, group)
            if before is not None and not before.group.own_role:
                return pb.LeaveGroupResponse()
            try:
                await self._groups.calls.act(
                    session, Capability.CHANGE_GROUP, lambda link: link.leave_group(group), about=group
                )
            except MeshError as error:
                if before is None or not is_outside(error):
                    raise
            if before is not None:
                left = MembersChanged(
                    group,
                    pb.GROUP_MEMBER_CHANGE_LEFT,
                    [own(session)],
                    time.time_ns() // 1000,
                    own(session),
                )
                await self._groups.write(session, await self._news.take(session.context, left))
        return pb.LeaveGroupResponse()

    # ---

    def _check_can(self, session: Session, capability: Capability) -> None:
        if capability not in session.context.driver.capabilities:
            raise outcomes.lacking(capability.value)

    async def _change(self, session: Session, group: str, change: GroupChange) -> None:
        history = change.history_for_new_members is not None
        capability = Capability.GROUP_HISTORY if history else Capability.CHANGE_GROUP
        await self._groups.calls.act(
            session, capability, lambda link: link.change_group(group, change), about=group
        )

    async def _show(self, session: Session, group: str, picture: bytes) -> str:
        return await self._groups.calls.act(
            session,
            Capability.GROUP_PICTURE,
            lambda link: link.set_group_picture(group, picture),
            about=group,
        )

    async def _show_first(self, session: Session, group: str, picture: bytes) -> str:
        """The picture of a group that is there already: without it, its making is done all the same."""
        try:
            return await self._show(session, group, picture)
        except MeshError as error:
            logger.warning("a new group shows no picture", account_id=session.id, problem=error.message)
            return ""

    def _named(self, session: Session, address: str) -> Named:
        person = session.context.people.find(address)
        return Named(address, Identity(person.phone, person.user_id, person.hidden_id, person.username))


def own(session: Session) -> Named:
    """The account itself."""
    identity = session.context.own
    return Named(f"phone:{identity.phone}" if identity.phone else f"user:{identity.user_id}", identity)


def _changed(session: Session, before: GroupRecord, record: GroupRecord) -> Sequence[Row]:
    micros = time.time_ns() // 1000
    rows: list[Row] = [*rows_of(record, before, micros)]
    if changed_fields(before, record):
        rows.append(changed_event(session.context, before, record, own(session), micros))
    return rows


_CHANGES = {
    pb.GROUP_MEMBER_ACTION_ADD: pb.GROUP_MEMBER_CHANGE_ADDED,
    pb.GROUP_MEMBER_ACTION_REMOVE: pb.GROUP_MEMBER_CHANGE_REMOVED,
    pb.GROUP_MEMBER_ACTION_PROMOTE: pb.GROUP_MEMBER_CHANGE_PROMOTED,
    pb.GROUP_MEMBER_ACTION_DEMOTE: pb.GROUP_MEMBER_CHANGE_DEMOTED,
}
