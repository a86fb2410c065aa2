"""SessionService: connect, pair, watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from grpc.aio import ServicerContext

from mesh_core import paging
from mesh_core import validation as checks
from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import InvalidField
from mesh_core.ids import new_uuid
from mesh_core.rpc.auth import Role, current_identity
from mesh_core.validation import to_timestamp
from mesh_session_node.journal import Action, Refused, unwrap
from mesh_session_node.misplaced import account_moved
from mesh_session_node.node import Node
from mesh_session_node.services import listings
from mesh_session_node.session.session import Session
from mesh_session_node.session.views import view
from sessionmesh.v1 import session_pb2 as pb
from sessionmesh.v1 import session_pb2_grpc

Context = ServicerContext[Any, Any]
_DEFAULT_TIMEOUT, _LONGEST_TIMEOUT = 180.0, 600.0


class SessionService(session_pb2_grpc.SessionServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(self, node: Node, pager: paging.Pager) -> None:
        self._node = node
        self._pager = pager

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        session = await self._called(request.account_id, context)
        if await self._first_time(session, Method.CONNECT, request.request_id):
            session.connect()
        return pb.ConnectResponse(session=view(session))

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        session = await self._called(request.account_id, context)
        if await self._first_time(session, Method.DISCONNECT, request.request_id):
            session.disconnect()
        return pb.DisconnectResponse(session=view(session))

    async def Logout(self, request: pb.LogoutRequest, context: Context) -> pb.LogoutResponse:
        session = await self._called(request.account_id, context)
        if await self._first_time(session, Method.LOGOUT, request.request_id):
            session.log_out()
        return pb.LogoutResponse(session=view(session))

    async def Pair(self, request: pb.PairRequest, context: Context) -> AsyncIterator[pb.PairResponse]:
        session = await self._node.shards.called_for_stream(context, request.account_id)
        checks.request_id(request.request_id)
        if request.method == pb.PAIR_METHOD_CODE or request.phone:
            checks.phone("phone", request.phone)
        timeout = _DEFAULT_TIMEOUT
        if request.HasField("timeout"):
            timeout = request.timeout.seconds + request.timeout.nanos / 1e9
            if not 1.0 <= timeout <= _LONGEST_TIMEOUT:
                raise InvalidField("timeout", "must be between 1 s and 10 minutes")
        attempt = self._node.pairings.begin(session, request, timeout, self._node.spawn)
        async for step in attempt.follow():
            yield step

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        session = await self._called(request.account_id, context)
        return pb.GetSessionResponse(session=view(session))

    async def WatchSession(
        self, request: pb.WatchSessionRequest, context: Context
    ) -> AsyncIterator[pb.WatchSessionResponse]:
        session = await self._node.shards.called_for_stream(context, request.account_id)
        news = asyncio.Event()
        if session.watchers is None:
            session.watchers = set()
        session.watchers.add(news)
        try:
            while not session.closed:
                news.clear()
                yield pb.WatchSessionResponse(session=view(session))
                await news.wait()
        finally:
            session.watchers.discard(news)
        raise account_moved()

    async def ListSessions(
        self, request: pb.ListSessionsRequest, _context: Context
    ) -> pb.ListSessionsResponse:
        identity = current_identity()
        tenant = identity.tenant_id
        if request.tenant_id or identity.role is Role.TENANT:
            tenant = identity.tenant_for(request.tenant_id)
        filters = paging.listing(request, tenant.bytes if tenant is not None else b"")
        page = self._pager.parse(request.page_size, request.page_token, filters)
        rows = await self._node.queries.fetch_rows(
            listings.SESSIONS,
            tenant,
            UUID(page.after) if page.after is not None else None,
            [*request.states] or None,
            request.node_id or None,
            page.limit + 1,
        )
        counts = await self._node.queries.fetch_rows(listings.COUNTS, tenant)
        response = pb.ListSessionsResponse(
            sessions=[listings.session_of_row(row) for row in rows[: page.limit]],
            counts=[pb.SessionStateCount(state=row["state"], count=row["count"]) for row in counts],
        )
        if len(rows) > page.limit:
            response.next_page_token = self._pager.token(rows[page.limit - 1]["id"].bytes, filters)
        return response

    async def ListDisconnects(
        self, request: pb.ListDisconnectsRequest, context: Context
    ) -> pb.ListDisconnectsResponse:
        session = await self._called(request.account_id, context)
        filters = paging.listing(request, session.ref.tenant.bytes)
        page = self._pager.parse(request.page_size, request.page_token, filters)
        rows = await self._node.queries.fetch_rows(
            listings.DISCONNECTS,
            session.ref.uuid,
            UUID(page.after) if page.after is not None else None,
            page.limit + 1,
        )
        response = pb.ListDisconnectsResponse()
        for row in rows[: page.limit]:
            found = response.disconnects.add(cause=row["cause"], detail=row["detail"], node_id=row["node"])
            if row["connect_time"] is not None:
                found.connect_time.CopyFrom(to_timestamp(row["connect_time"]))
            found.disconnect_time.CopyFrom(to_timestamp(row["disconnect_time"]))
        if len(rows) > page.limit:
            response.next_page_token = self._pager.token(rows[page.limit - 1]["id"].bytes, filters)
        return response

    async def _called(self, account_id: str, context: Context) -> Session:
        return await self._node.shards.called(context.invocation_metadata(), account_id)

    async def _first_time(self, session: Session, method: Method, request_id: str) -> bool:
        """Use up a request id; False for one that acted before."""
        checks.request_id(request_id)
        result = new_uuid()
        action = Action(method, request_id, payload_digest(b""), result)
        outcome = await self._node.journal.write(session.ref, action)
        if isinstance(outcome, Refused):
            raise self._node.refused(session)
        return unwrap(outcome, result) == result
