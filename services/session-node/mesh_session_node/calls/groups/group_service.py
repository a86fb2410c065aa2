"""GroupService: the groups of an account, as the mesh has them and as the network does."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import addresses
from mesh_core.database.requests import RecordKind
from mesh_core.metrics.caches import hits, misses
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context
from mesh_session_node.calls.groups.group_calls import GroupCalls
from mesh_session_node.calls.groups.group_changes import GroupChanges
from mesh_session_node.calls.groups.group_joining import GroupJoining
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.inbound.group_news import GroupNews
from mesh_session_node.inbound.group_records import group_of, rows_of, set_picture_id
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.store.records import StoredRecord
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import group_pb2 as pb
from sessionmesh.v1 import group_pb2_grpc
from sessionmesh.v1.profile_pb2 import ProfilePicture

FRESH = timedelta(hours=2)
"""How long what the network answered about a picture is good, where it tells of no other one."""


class GroupService(GroupChanges, GroupJoining, group_pb2_grpc.GroupServiceServicer):
    """What is stored of groups is in `GroupBook`; the network is asked where a call says so."""

    def __init__(
        self, groups: GroupCalls, news: GroupNews, references: ReferenceLookup, pager: Pager
    ) -> None:
        self._groups = groups
        self._news = news
        self._references = references
        self._pager = pager

    async def GetGroup(self, request: pb.GetGroupRequest, context: Context) -> pb.GetGroupResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        record = await self._groups.record(session, group)
        hits("groups").inc()
        return pb.GetGroupResponse(group=group_of(record))

    async def FetchGroup(self, request: pb.FetchGroupRequest, context: Context) -> pb.FetchGroupResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        async with self._groups.book.turn(session.context, group):
            misses("groups").inc()
            info = await self._groups.fetch(session, group)
            told = await self._groups.book.told(session.context, info)
            await self._groups.write(session, told.rows)
        return pb.FetchGroupResponse(group=group_of(told.record))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Context) -> pb.ListGroupsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        ref = session.context.ref
        page = self._pager.page(request, ref.tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        async with self._pager.working(ref.tenant) as slices:
            found = await self._groups.book.records.page(ref.uuid, RecordKind.GROUP, after, page.fetch)
            groups, next_page_token = await page.cut_in(slices, ref.tenant, found, _group, _key)
        return pb.ListGroupsResponse(groups=groups, next_page_token=next_page_token)

    async def ListCommonGroups(
        self, request: pb.ListCommonGroupsRequest, context: Context
    ) -> pb.ListCommonGroupsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        person = addresses.person("address", request.address)
        ref, records = session.context.ref, self._groups.book.records
        page = self._pager.page(request, ref.tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        names = await self._references.names(session.context, person)
        async with self._pager.working(ref.tenant) as slices:
            found = await records.groups_of(ref.uuid, names, after, page.fetch)
            groups, next_page_token = await page.cut_in(slices, ref.tenant, found, _group, _key)
        return pb.ListCommonGroupsResponse(groups=groups, next_page_token=next_page_token)

    async def ListGroupMembers(
        self, request: pb.ListGroupMembersRequest, context: Context
    ) -> pb.ListGroupMembersResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        ref = session.context.ref
        page = self._pager.page(request, ref.tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        await self._groups.record(session, group)
        async with self._pager.working(ref.tenant) as slices:
            found = await self._groups.book.records.members_behind(
                ref.uuid, RecordKind.GROUP_MEMBER, group, after, page.fetch
            )
            members, next_page_token = await page.cut_in(slices, ref.tenant, found, _member, _member_key)
        return pb.ListGroupMembersResponse(members=members, next_page_token=next_page_token)

    async def GetGroupPicture(
        self, request: pb.GetGroupPictureRequest, context: Context
    ) -> pb.GetGroupPictureResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        async with self._groups.book.turn(session.context, group):
            before = await self._groups.stored(session, group)
            known = await self._known_picture(session, before, preview=request.preview)
            if known is not None:
                return pb.GetGroupPictureResponse(picture=known)
            found = await self._groups.calls.act(
                session,
                Capability.GROUP_PICTURE,
                lambda link: link.group_picture(group, preview=request.preview),
                about=group,
            )
            record, now = GroupRecord(), Timestamp()
            record.CopyFrom(before)
            now.GetCurrentTime()
            response = pb.GetGroupPictureResponse()
            if found is None or not found.data:
                set_picture_id(record, "")
            else:
                set_picture_id(record, found.picture_id)
                tenant = session.context.ref.tenant
                media_id = await self._groups.pictures.keep(tenant, session.id, found.data)
                if request.preview:
                    record.preview_media_id = media_id
                    record.preview_time.CopyFrom(now)
                else:
                    record.group.picture_media_id = media_id
                    record.picture_time.CopyFrom(now)
                response.picture.media_id, response.picture.picture_id = media_id, found.picture_id
                response.picture.fetch_time.CopyFrom(now)
            await self._groups.write(session, [*rows_of(record, before, now.ToMicroseconds())])
        return response

    async def _known_picture(
        self, session: Session, record: GroupRecord, *, preview: bool
    ) -> ProfilePicture | None:
        """The picture that a group shows, where the mesh has it still, and asked for it not long ago."""
        at = record.preview_time if preview else record.picture_time
        media_id = record.preview_media_id if preview else record.group.picture_media_id
        now = Timestamp()
        now.GetCurrentTime()
        if not media_id or now.seconds - at.seconds > FRESH.total_seconds():
            return None
        if not await self._groups.pictures.is_there(session.context.ref.tenant, media_id):
            return None
        return ProfilePicture(media_id=media_id, picture_id=record.group.picture_id, fetch_time=at)


def _group(stored: StoredRecord) -> pb.Group:
    return group_of(GroupRecord.FromString(stored.value))


def _key(stored: StoredRecord) -> bytes:
    return stored.key.encode()


def _member(stored: StoredRecord) -> pb.GroupMember:
    return pb.GroupMember.FromString(stored.value)


def _member_key(stored: StoredRecord) -> bytes:
    return stored.member.encode()
