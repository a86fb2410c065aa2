"""CommunityService: the communities of an account, and the groups that are linked to them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack

from mesh_core import addresses, validation
from mesh_core.database.requests import Method, RecordKind
from mesh_core.errors import InvalidField, MeshError, NotFound
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context
from mesh_session_node.calls.groups.group_calls import GroupCalls, is_outside, token_of
from mesh_session_node.calls.groups.group_changes import own
from mesh_session_node.calls.groups.group_validation import MAX_DESCRIPTION, MAX_NAME, status_of
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    MembersChanged,
)
from mesh_session_node.drivers.interface.groups import (
    GroupChange,
    GroupRules,
    LinkedGroup,
    NewGroup,
)
from mesh_session_node.inbound.fitting_groups import fit_linked
from mesh_session_node.inbound.group_news import GroupNews
from mesh_session_node.inbound.group_records import community_of, linked_of
from mesh_session_node.journal import Row
from mesh_session_node.store.records import StoredRecord
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import community_pb2 as pb
from sessionmesh.v1 import community_pb2_grpc, group_pb2

MAX_GROUPS = 100
"""Of one LinkGroups or UnlinkGroups."""
MAX_STORED_GROUPS = 10_000


class CommunityService(community_pb2_grpc.CommunityServiceServicer):
    """What is stored of communities is in `GroupBook`, as groups are."""

    def __init__(self, groups: GroupCalls, news: GroupNews, pager: Pager) -> None:
        self._groups = groups
        self._news = news
        self._pager = pager

    async def CreateCommunity(
        self, request: pb.CreateCommunityRequest, context: Context
    ) -> pb.CreateCommunityResponse:
        session = await self._groups.calls.session(request.account_id, context)
        new = NewGroup(
            token=token_of(session, validation.request_id(request.request_id)),
            name=validation.required_text("name", request.name, MAX_NAME),
            description=validation.text("description", request.description, MAX_DESCRIPTION),
            rules=GroupRules(join_approval=request.join_approval),
        )
        turn = AsyncExitStack()

        async def act() -> tuple[pb.CreateCommunityResponse, Sequence[Row]]:
            made = await self._groups.calls.act(
                session, Capability.COMMUNITIES, lambda link: link.create_community(new), about=new.name
            )
            infos = [made]
            if made.announcement_group:
                infos.append(await self._groups.fetch(session, made.announcement_group))
            rows: list[Row] = []
            record = GroupRecord()
            for info in infos:
                await turn.enter_async_context(self._groups.book.turn(session.context, info.address))
                told = await self._groups.book.told(session.context, info, own(session))
                rows += told.rows
                if info is made:
                    record = told.record
            return pb.CreateCommunityResponse(community=community_of(record)), rows

        answer = pb.CreateCommunityResponse
        return await self._groups.calls.answered(
            session, Method.CREATE_COMMUNITY, request, answer, act, turn=turn
        )

    async def GetCommunity(
        self, request: pb.GetCommunityRequest, context: Context
    ) -> pb.GetCommunityResponse:
        session = await self._groups.calls.session(request.account_id, context)
        community = addresses.group("community", request.community)
        return pb.GetCommunityResponse(community=community_of(await self._record(session, community)))

    async def ListCommunities(
        self, request: pb.ListCommunitiesRequest, context: Context
    ) -> pb.ListCommunitiesResponse:
        session = await self._groups.calls.session(request.account_id, context)
        ref = session.context.ref
        page = self._pager.page(request, ref.tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        found = await self._groups.book.records.page(ref.uuid, RecordKind.COMMUNITY, after, page.fetch)
        communities, next_page_token = page.cut(found, _community, lambda one: one.key.encode())
        return pb.ListCommunitiesResponse(communities=communities, next_page_token=next_page_token)

    async def LinkGroups(self, request: pb.LinkGroupsRequest, context: Context) -> pb.LinkGroupsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        community = addresses.group("community", request.community)
        failures = await self._each(session, community, request.groups, unlink=False)
        return pb.LinkGroupsResponse(failures=failures)

    async def UnlinkGroups(
        self, request: pb.UnlinkGroupsRequest, context: Context
    ) -> pb.UnlinkGroupsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        community = addresses.group("community", request.community)
        failures = await self._each(session, community, request.groups, unlink=True)
        return pb.UnlinkGroupsResponse(failures=failures)

    async def ListCommunityGroups(
        self, request: pb.ListCommunityGroupsRequest, context: Context
    ) -> pb.ListCommunityGroupsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        community = addresses.group("community", request.community)
        page = self._pager.page(request, session.context.ref.tenant.bytes)
        found = await self._groups.calls.act(
            session, Capability.COMMUNITIES, lambda link: link.community_groups(community), about=community
        )
        ours = await self._groups.book.records.of_keys(
            session.context.ref.uuid, RecordKind.GROUP, [one.address for one in found]
        )
        joined = {one.key for one in ours}
        after = page.after or b""
        behind = sorted((one for one in fit_linked(found) if _place(one) > after), key=_place)

        def shown(one: LinkedGroup) -> pb.CommunityGroup:
            group = linked_of(one)
            group.joined = one.address in joined if one.joined is None else one.joined
            return group

        groups, next_page_token = page.cut(behind, shown, _place)
        return pb.ListCommunityGroupsResponse(groups=groups, next_page_token=next_page_token)

    async def LeaveCommunity(
        self, request: pb.LeaveCommunityRequest, context: Context
    ) -> pb.LeaveCommunityResponse:
        session = await self._groups.calls.session(request.account_id, context)
        community = addresses.group("community", request.community)
        async with self._groups.book.turn(session.context, community):
            if not await self._end(session, community, lambda link: link.leave_community(community)):
                return pb.LeaveCommunityResponse()
            await self._left(session, community)
        for group in await self._linked(session, community):
            async with self._groups.book.turn(session.context, group):
                await self._left(session, group)
        return pb.LeaveCommunityResponse()

    async def DeactivateCommunity(
        self, request: pb.DeactivateCommunityRequest, context: Context
    ) -> pb.DeactivateCommunityResponse:
        session = await self._groups.calls.session(request.account_id, context)
        community = addresses.group("community", request.community)
        async with self._groups.book.turn(session.context, community):
            if not await self._end(session, community, lambda link: link.deactivate_community(community)):
                return pb.DeactivateCommunityResponse()
            ended = CommunityEnded(community, _now(), own(session))
            await self._groups.write(session, await self._news.take(session.context, ended))
        for group in await self._linked(session, community):
            await self._link(session, group, "")
        return pb.DeactivateCommunityResponse()

    # ---

    async def _record(self, session: Session, community: str) -> GroupRecord:
        record = await self._groups.book.record(session.context, community)
        if record is None or not record.parent:
            raise NotFound("community", community)
        return record

    async def _each(
        self, session: Session, community: str, given: Iterable[str], *, unlink: bool
    ) -> list[pb.CommunityGroupFailure]:
        """Link or unlink one group after the other; why it failed for some."""
        groups = [addresses.group(f"groups[{at}]", one) for at, one in enumerate(given)]
        if not 1 <= len(groups) <= MAX_GROUPS:
            raise InvalidField("groups", f"must have 1 to {MAX_GROUPS} entries")
        if len({*groups}) != len(groups):
            raise InvalidField("groups", "must not have the same entry twice")
        failures = []
        for group in groups:
            try:
                async with self._groups.book.turn(session.context, community):
                    await self._link_one(session, community, group, unlink=unlink)
                await self._link(session, group, "" if unlink else community)
            except MeshError as error:
                if error.reason in _OF_ALL:  # it would be so for all of them
                    raise
                failures.append(pb.CommunityGroupFailure(group=group, error=status_of(error)))
        return failures

    async def _link_one(self, session: Session, community: str, group: str, *, unlink: bool) -> None:
        await self._groups.calls.act(
            session,
            Capability.COMMUNITIES,
            lambda link: link.unlink_group(community, group) if unlink else link.link_group(community, group),
            about=group,
        )
        record = await self._groups.book.record(session.context, group)
        name = "" if record is None else record.group.name
        changed = [LinkedGroup(group, name, joined=record is not None and bool(record.group.own_role))]
        notice = CommunityGroupsChanged(
            community, _now(), () if unlink else changed, changed if unlink else (), own(session)
        )
        await self._groups.write(session, await self._news.take(session.context, notice))

    async def _link(self, session: Session, group: str, community: str) -> None:
        """Store to which community a group is linked."""
        async with self._groups.book.turn(session.context, group):
            change = GroupChanged(group, GroupChange(community=community), _now(), own(session))
            await self._groups.write(session, await self._news.take(session.context, change))

    async def _end(self, session: Session, community: str, act: Callable[[Acting], Awaitable[None]]) -> bool:
        """Do what ends the account's time in a community; False where it has ended before."""
        record = await self._groups.book.record(session.context, community)
        if record is not None and record.parent and not record.group.own_role:
            return False
        try:
            await self._groups.calls.act(session, Capability.COMMUNITIES, act, about=community)
        except MeshError as error:
            if record is None or not is_outside(error):
                raise
        return True

    async def _left(self, session: Session, group: str) -> None:
        if await self._groups.book.record(session.context, group) is None:
            return
        left = MembersChanged(group, group_pb2.GROUP_MEMBER_CHANGE_LEFT, [own(session)], _now(), own(session))
        await self._groups.write(session, await self._news.take(session.context, left))

    async def _linked(self, session: Session, community: str) -> list[str]:
        """The groups of the account that are linked to a community."""
        found = await self._groups.book.records.page(
            session.context.ref.uuid, RecordKind.GROUP, "", MAX_STORED_GROUPS
        )
        return [one.key for one in found if GroupRecord.FromString(one.value).group.community == community]


def _community(stored: StoredRecord) -> pb.Community:
    return community_of(GroupRecord.FromString(stored.value))


def _place(group: LinkedGroup) -> bytes:
    """Where a group stands among those of its community."""
    return f"{0 if group.announcements else 1}{group.address}".encode()


def _now() -> int:
    return time.time_ns() // 1000


_OF_ALL = frozenset(
    {"UNSUPPORTED_BY_NETWORK", "NOT_PAIRED", "NOT_CONNECTED", "NOT_OWNER", "BACKEND_UNAVAILABLE"}
)
