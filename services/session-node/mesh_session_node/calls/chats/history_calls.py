"""The call that fetches the past of chats."""

from __future__ import annotations

from mesh_core import validation
from mesh_core.database.requests import request_digest
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_core.jobs.resource import job_message
from mesh_core.paging import Pager
from mesh_session_node.account.session import Session
from mesh_session_node.calls import outcomes
from mesh_session_node.calls.account_call import AccountCalls, Context
from mesh_session_node.calls.chats.chat_calls import ChatCalls, chat_address
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.inbound.chats import Chats
from mesh_session_node.inbound.labels import Labels
from mesh_session_node.outbound.references import ReferenceLookup, check_ref
from mesh_session_node.store.history_jobs import HistoryJobs, HistoryPlan
from sessionmesh.v1 import chat_pb2 as pb

DEFAULT_MESSAGES, MAX_MESSAGES = 500, 100_000


class HistoryCalls(ChatCalls):
    """Part of `ChatService`."""

    def __init__(
        self,
        calls: AccountCalls,
        chats: Chats,
        labels: Labels,
        references: ReferenceLookup,
        pager: Pager,
        history: HistoryJobs,
    ) -> None:
        super().__init__(calls, chats, labels, references, pager)
        self._history = history

    async def SyncHistory(self, request: pb.SyncHistoryRequest, context: Context) -> pb.SyncHistoryResponse:
        session = await self._calls.session(request.account_id, context)
        request_id = validation.request_id(request.request_id)
        digest = request_digest(request)
        if not 0 <= request.max_messages <= MAX_MESSAGES:
            raise InvalidField("max_messages", f"must be between 0 (for 500) and {MAX_MESSAGES:,}")
        plan = await self._plan(session, request)
        if Capability.HISTORY not in session.context.driver.capabilities:
            raise outcomes.lacking(Capability.HISTORY.value)
        if not session.paired:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        ref, most = session.context.ref, request.max_messages or DEFAULT_MESSAGES
        row = await self._history.begin(ref.tenant, ref.uuid, ref.shard, request_id, digest, plan, most)
        return pb.SyncHistoryResponse(job=job_message(row))

    async def _plan(self, session: Session, request: pb.SyncHistoryRequest) -> HistoryPlan:
        begin = HistoryPlan(all_chats=not request.chat)
        if request.chat:
            address = chat_address("chat", request.chat)
            row = await self._chats.row(session.context, address)
            begin = HistoryPlan(chat=address if row is None else row["chat"])
        if request.HasField("before_time"):
            validation.timestamp("before_time", request.before_time)
            return HistoryPlan(
                chat=begin.chat, all_chats=begin.all_chats, time=max(1, request.before_time.ToMicroseconds())
            )
        if not request.HasField("before_message"):
            return begin
        if not request.chat:
            raise InvalidField("before_message", "needs chat")
        check_ref("before_message", request.before_message)
        before = await self._references.resolve(session.context, request.before_message, "before_message")
        if before.chat not in await self._references.names(session.context, begin.chat):
            raise InvalidField("before_message", "is not of the chat")
        return HistoryPlan(
            chat=begin.chat, network_id=before.network_id, sender=before.sender, time=before.time
        )
