"""The calls of GroupService about invites, and about people who ask to join."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from mesh_core import addresses
from mesh_core.database.requests import Method
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context
from mesh_session_node.calls.groups.group_calls import GroupCalls
from mesh_session_node.calls.groups.group_validation import (
    MAX_ANSWERED,
    check_invite,
    check_people,
    failure_of,
)
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.groups import JoinRequest
from mesh_session_node.inbound.fitting_groups import MAX_MEMBERS, fit_group, fit_request
from mesh_session_node.inbound.group_records import no_request, record_of, request_of
from mesh_session_node.inbound.groups import seen
from mesh_session_node.journal import Row
from mesh_session_node.outbound.references import ReferenceLookup
from sessionmesh.v1 import group_pb2 as pb


class GroupJoining:
    """Part of `GroupService`."""

    _groups: GroupCalls
    _pager: Pager
    _references: ReferenceLookup

    async def GetGroupInvite(
        self, request: pb.GetGroupInviteRequest, context: Context
    ) -> pb.GetGroupInviteResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        invite = await self._groups.calls.act(
            session,
            Capability.GROUP_INVITE,
            lambda link: link.group_invite(group, reset=False),
            about=group,
        )
        return pb.GetGroupInviteResponse(code=invite.code, url=invite.url)

    async def ResetGroupInvite(
        self, request: pb.ResetGroupInviteRequest, context: Context
    ) -> pb.ResetGroupInviteResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)

        async def act() -> tuple[pb.ResetGroupInviteResponse, Sequence[Row]]:
            invite = await self._groups.calls.act(
                session,
                Capability.GROUP_INVITE,
                lambda link: link.group_invite(group, reset=True),
                about=group,
            )
            return pb.ResetGroupInviteResponse(code=invite.code, url=invite.url), ()

        answer = pb.ResetGroupInviteResponse
        method = Method.RESET_GROUP_INVITE
        return await self._groups.calls.answered(session, method, request, answer, act)

    async def PreviewGroupInvite(
        self, request: pb.PreviewGroupInviteRequest, context: Context
    ) -> pb.PreviewGroupInviteResponse:
        session = await self._groups.calls.session(request.account_id, context)
        invite = check_invite(request)
        info = await self._groups.calls.act(
            session, Capability.GROUP_INVITE, lambda link: link.preview_invite(invite), about="invite"
        )
        return pb.PreviewGroupInviteResponse(group=record_of(fit_group(info), None).group)

    async def JoinGroup(self, request: pb.JoinGroupRequest, context: Context) -> pb.JoinGroupResponse:
        session = await self._groups.calls.session(request.account_id, context)
        invite = check_invite(request)
        turn = AsyncExitStack()

        async def act() -> tuple[pb.JoinGroupResponse, Sequence[Row]]:
            joined = await self._groups.calls.act(
                session, Capability.GROUP_INVITE, lambda link: link.join_group(invite), about="invite"
            )
            if joined.pending:
                pending = pb.JoinGroupResponse(pending=True)
                pending.group.address = joined.group
                return pending, ()
            await turn.enter_async_context(self._groups.book.turn(session.context, joined.group))
            info = await self._groups.fetch(session, joined.group)
            told = await self._groups.book.told(session.context, info)
            response = pb.JoinGroupResponse(group=told.record.group)
            return response, told.rows

        answer = pb.JoinGroupResponse
        return await self._groups.calls.answered(session, Method.JOIN_GROUP, request, answer, act, turn=turn)

    async def ListJoinRequests(
        self, request: pb.ListJoinRequestsRequest, context: Context
    ) -> pb.ListJoinRequestsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        page = self._pager.page(request, session.context.ref.tenant.bytes)
        asking = await self._groups.calls.act(
            session,
            Capability.GROUP_JOIN_REQUESTS,
            lambda link: link.list_join_requests(group),
            about=group,
        )
        after = page.after or b""
        fitting = [fit_request(one) for one in asking[:MAX_MEMBERS]]
        behind = sorted((one for one in fitting if _place(one) > after), key=_place)

        def shown(one: JoinRequest) -> pb.JoinRequest:
            request = request_of(one)
            request.requester.CopyFrom(seen(session.context, one.requester))
            return request

        requests, next_page_token = page.cut(behind, shown, _place)
        return pb.ListJoinRequestsResponse(join_requests=requests, next_page_token=next_page_token)

    async def AnswerJoinRequests(
        self, request: pb.AnswerJoinRequestsRequest, context: Context
    ) -> pb.AnswerJoinRequestsResponse:
        session = await self._groups.calls.session(request.account_id, context)
        group = addresses.group("group", request.group)
        people = check_people(session, "requesters", request.requesters, MAX_ANSWERED)

        async def act() -> tuple[pb.AnswerJoinRequestsResponse, Sequence[Row]]:
            failures = await self._groups.calls.act(
                session,
                Capability.GROUP_JOIN_REQUESTS,
                lambda link: link.answer_join_requests(group, people, approve=request.approve),
                about=group,
            )
            response = pb.AnswerJoinRequestsResponse(failures=[failure_of(one) for one in failures])
            return response, await self._answered(session, group, people)

        return await self._groups.calls.answered(
            session,
            Method.ANSWER_JOIN_REQUESTS,
            request,
            pb.AnswerJoinRequestsResponse,
            act,
            turn=self._groups.book.turn(session.context, group),
        )

    async def _answered(self, session: Session, group: str, people: Sequence[str]) -> Sequence[Row]:
        """Nobody waits any more of these, by any of their names; who came in by it, the network tells."""
        now = time.time_ns() // 1000
        return [
            no_request(group, name, now)
            for person in people
            for name in await self._references.names(session.context, person)
        ]


def _place(request: JoinRequest) -> bytes:
    """Where a request stands among those of its group: oldest first."""
    return f"{request.time:020}{request.requester.address}".encode()
