"""SessionService: connect, pair, watch, list."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import timedelta

from asyncpg import Record
from google.protobuf.message import DecodeError

from mesh_core import validation
from mesh_core.database.requests import Method
from mesh_core.errors import FailedPrecondition, InvalidField, NotFound
from mesh_core.ids import Prefix, decode, encode
from mesh_core.paging import Pager
from mesh_core.rpc.auth import Role, current_identity
from mesh_core.validation import to_timestamp
from mesh_session_node.account.pairing import Pairings
from mesh_session_node.account.pairing_steps import MAX_JSON
from mesh_session_node.account.views import show_self, standing, view
from mesh_session_node.calls.account_call import AccountCalls, Context
from mesh_session_node.calls.sessions.session_settings import SessionSettingsCalls
from mesh_session_node.context.context import account_moved
from mesh_session_node.outbound.pacing import warm_up_day
from mesh_session_node.store.sessions import SessionStore
from sessionmesh.v1 import session_pb2 as pb


class SessionService(SessionSettingsCalls):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(self, calls: AccountCalls, pairings: Pairings, sessions: SessionStore, pager: Pager) -> None:
        super().__init__(calls)
        self._pairings = pairings
        self._sessions = sessions
        self._pager = pager

    async def Connect(self, request: pb.ConnectRequest, context: Context) -> pb.ConnectResponse:
        session = await self._calls.session(request.account_id, context)
        session.connect()
        return pb.ConnectResponse(session=view(session))

    async def Disconnect(self, request: pb.DisconnectRequest, context: Context) -> pb.DisconnectResponse:
        session = await self._calls.session(request.account_id, context)
        session.disconnect()
        return pb.DisconnectResponse(session=view(session))

    async def Logout(self, request: pb.LogoutRequest, context: Context) -> pb.LogoutResponse:
        session = await self._calls.session(request.account_id, context)
        await self._calls.once(session, Method.LOGOUT, request.request_id, session.log_out)
        return pb.LogoutResponse(session=view(session))

    async def Pair(self, request: pb.PairRequest, context: Context) -> AsyncIterator[pb.PairResponse]:
        session = await self._calls.session_for_stream(request.account_id, context)
        validation.request_id(request.request_id)
        method = request.method or pb.PAIR_METHOD_QR
        if method == pb.PAIR_METHOD_CODE or request.phone:
            validation.phone("phone", request.phone)
        if method == pb.PAIR_METHOD_CREDENTIALS and not request.WhichOneof("credentials"):
            raise InvalidField("credentials", "are required to pair with credentials")
        if request.attempt_id:
            decode(Prefix.PAIRING, request.attempt_id, "attempt_id")
        timeout = _DEFAULT_TIMEOUT
        if request.HasField("timeout"):
            given = validation.duration("timeout", request.timeout, least=_MIN_TIMEOUT, most=_MAX_TIMEOUT)
            timeout = given.total_seconds()
        if method not in session.context.driver.pairing_methods:
            raise FailedPrecondition(
                f"the account's network does not pair by {pb.PairMethod.Name(method)}",
                "UNSUPPORTED_BY_NETWORK",
            )
        attempt = self._pairings.begin(session, request, timeout)
        async with aclosing(attempt.follow()) as steps:
            async for step in steps:
                yield step

    async def AnswerPairing(
        self, request: pb.AnswerPairingRequest, context: Context
    ) -> pb.AnswerPairingResponse:
        session = await self._calls.session(request.account_id, context)
        decode(Prefix.PAIRING, request.attempt_id, "attempt_id")
        answer = request.WhichOneof("answer")
        if answer is None:
            raise InvalidField("answer", "is required")
        if answer == "assertion_json":
            validation.required_text("assertion_json", request.assertion_json, MAX_JSON)
        self._pairings.running(session, request.attempt_id).answer(request)
        return pb.AnswerPairingResponse()

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        session = await self._calls.session(request.account_id, context)
        shown, settings, now = view(session), session.context.settings, time.time()
        shown.risk.CopyFrom(session.context.risk.shown(now))
        shown.risk.warm_up_day = warm_up_day(settings, now)
        return pb.GetSessionResponse(session=shown)

    async def WatchSession(
        self, request: pb.WatchSessionRequest, context: Context
    ) -> AsyncIterator[pb.WatchSessionResponse]:
        session = await self._calls.session_for_stream(request.account_id, context)
        changes = session.context.changes
        while not session.context.closed:
            if session.account.deleted:
                raise NotFound("account", session.id)
            version = changes.version
            yield pb.WatchSessionResponse(session=view(session))
            await changes.wait(since=version)
        raise account_moved()

    async def ListSessions(
        self, request: pb.ListSessionsRequest, _context: Context
    ) -> pb.ListSessionsResponse:
        identity = current_identity()
        tenant = identity.tenant_id
        if request.tenant_id or identity.role is Role.TENANT:
            tenant = identity.tenant_for(request.tenant_id)
        page = self._pager.page(request, tenant.bytes if tenant is not None else b"")
        accounts = identity.account_uuids
        rows = await self._sessions.page(
            tenant,
            page.after_id,
            states=request.states,
            node=validation.text("node_id", request.node_id),
            accounts=accounts,
            limit=page.fetch,
        )
        counts = await self._sessions.counts(tenant, accounts)
        sessions, next_page_token = page.cut(rows, _session_of_row)
        return pb.ListSessionsResponse(
            sessions=sessions,
            counts=[pb.SessionStateCount(state=row["state"], count=row["count"]) for row in counts],
            next_page_token=next_page_token,
        )

    async def ListDisconnects(
        self, request: pb.ListDisconnectsRequest, context: Context
    ) -> pb.ListDisconnectsResponse:
        session = await self._calls.session(request.account_id, context)
        account = session.context.ref
        page = self._pager.page(request, account.tenant.bytes)
        rows = await self._sessions.disconnects(account.uuid, page.after_id, page.fetch)
        disconnects, next_page_token = page.cut(rows, _disconnect_of_row)
        return pb.ListDisconnectsResponse(disconnects=disconnects, next_page_token=next_page_token)


def _session_of_row(row: Record) -> pb.Session:
    """A session as last stored; one that its owner has not stored yet is NEW."""
    session = pb.Session(
        account_id=encode(Prefix.ACCOUNT, row["id"]),
        tenant_id=encode(Prefix.TENANT, row["tenant"]),
        state=row["state"],
        counters=pb.SessionCounters(queued=row["queued"]),
    )
    if row["node"] is None:
        return session
    session.cause, session.detail = row["cause"], row["detail"]
    show_self(session, row["phone"], row["network_user_id"], row["hidden_id"], row["push_name"])
    with suppress(DecodeError):  # one unreadable row must not cost the page
        session.restrictions.extend(standing(pb.Session.FromString(row["restrictions"]).restrictions))
    session.paired, session.node_id, session.epoch = row["paired"], row["node"], row["epoch"]
    session.recent_failures = row["recent_failures"]
    counters = session.counters
    counters.sent, counters.received = row["sent"], row["received"]
    counters.failed, counters.connects = row["failed"], row["connects"]
    for field in _TIMES:
        if row[field] is not None:
            getattr(session, field).CopyFrom(to_timestamp(row[field]))
    return session


def _disconnect_of_row(row: Record) -> pb.Disconnect:
    shown = pb.Disconnect(cause=row["cause"], detail=row["detail"], node_id=row["node"])
    if row["connect_time"] is not None:
        shown.connect_time.CopyFrom(to_timestamp(row["connect_time"]))
    shown.disconnect_time.CopyFrom(to_timestamp(row["disconnect_time"]))
    return shown


_TIMES = ("connect_time", "last_heard_time", "last_inbound_time", "next_connect_time", "update_time")
_DEFAULT_TIMEOUT = 180.0  # seconds
_MIN_TIMEOUT, _MAX_TIMEOUT = timedelta(seconds=1), timedelta(minutes=10)
