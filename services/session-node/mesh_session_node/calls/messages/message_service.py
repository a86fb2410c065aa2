"""MessageService. `send_message` is the mesh's hottest call: bytes in, bytes out, and one future awaited."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from google.protobuf.message import DecodeError

from mesh_core.errors import (
    FailedPrecondition,
    InvalidArgument,
    InvalidField,
    MeshError,
)
from mesh_core.ids import Prefix, decode
from mesh_core.message_status import WAITING
from mesh_core.paging import Pager
from mesh_core.rpc.server.status import count_limit, details_of
from mesh_core.validation import MAX_BATCH, to_timestamp
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time, patience
from mesh_session_node.calls.messages.message_acts import MessageActs
from mesh_session_node.calls.messages.message_filters import message_filter
from mesh_session_node.calls.messages.sending import Accepted, Sending
from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.journal import StatusChange, unwrap
from mesh_session_node.outbound.references import ReferenceLookup, check_ref
from mesh_session_node.outbound.statuses import count_status, status_event
from mesh_session_node.store.messages import MessageStore
from mesh_session_node.store.receipts import StoredReceipt
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import message_pb2_grpc

_parse = pb.SendMessageRequest.FromString


class MessageService(MessageActs, message_pb2_grpc.MessageServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis; what acts on messages is in
    `MessageActs`.
    """

    def __init__(
        self,
        calls: AccountCalls,
        messages: MessageStore,
        references: ReferenceLookup,
        sending: Sending,
        changes: ContentChanges,
        pager: Pager,
    ) -> None:
        super().__init__(calls, references, sending, changes)
        self._lookup = calls.lookup
        self._messages = messages
        self._pager = pager

    async def send_message(self, raw: bytes, context: Context) -> bytes:
        """SendMessage, from bytes to bytes."""
        try:
            request = _parse(raw)
        except DecodeError:
            raise InvalidArgument("the request is not a SendMessageRequest", "INVALID_FIELD") from None
        session = await self._calls.session(request.account_id, context)
        response = pb.SendMessageResponse()
        await self._sending.send(session, request, response.message)
        return response.SerializeToString()

    async def accept_messages(self, raw: bytes, _context: Context) -> bytes:
        """NodeService.AcceptMessages: messages of accounts that are owned here."""
        try:
            messages = pb.SendMessagesRequest.FromString(raw).messages
        except DecodeError:
            raise InvalidArgument("the request is not an AcceptMessagesRequest", "INVALID_FIELD") from None
        if len(messages) > MAX_BATCH:
            raise InvalidField("messages", f"must have at most {MAX_BATCH:,} entries")
        response = pb.SendMessagesResponse()
        names: list[tuple[str, str]] = []
        accepted: list[Accepted | pb.Message | MeshError] = []
        for item in messages:
            names.append((item.account_id, item.request_id))
            try:
                session = await self._lookup.visible(item.account_id)
                accepted.append(await self._sending.accept(session, item))
            except MeshError as error:
                accepted.append(error)
        until = patience()
        for (account_id, request_id), one in zip(names, accepted, strict=True):
            result = response.results.add(account_id=account_id, request_id=request_id)
            try:
                if isinstance(one, MeshError):
                    raise one
                if isinstance(one, pb.Message):
                    result.message.CopyFrom(one)
                    continue
                self._sending.show(one, await in_time(one.done, until), result.message)
            except MeshError as error:
                count_limit(error)
                result.error.MergeFromString(details_of(error))
        return response.SerializeToString()

    async def GetMessage(self, request: pb.GetMessageRequest, context: Context) -> pb.GetMessageResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        row = await self._references.stored(session.context, request.message, "message")
        message = await self._sending.shown(session, row)
        if message.status == pb.MESSAGE_STATUS_QUEUED:
            message.wait_reason = session.sender.wait_reason(row["id"])
        return pb.GetMessageResponse(message=message)

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        session = await self._calls.session(request.account_id, context)
        account = session.context.ref
        page = self._pager.page(request, account.tenant.bytes)
        wanted = message_filter(request, page.after_id)
        if wanted.chats:
            names = await self._references.names(session.context, wanted.chats[0])
            wanted = replace(wanted, chats=names)
        if request.network_message_id:
            row = await self._references.by_network_id(session.context, request.network_message_id)
            wanted = replace(wanted, ids=[] if row is None else [row["id"]])
        shown = partial(message_of_row, session.id, session.context.people)
        async with self._pager.working(account.tenant) as slices:
            rows = await self._messages.page(account.uuid, wanted, page.fetch)
            await self._references.recall(session.context, [row["chat"] for row in rows])
            messages, next_page_token = await page.cut_in(slices, account.tenant, rows, shown)
        return pb.ListMessagesResponse(messages=messages, next_page_token=next_page_token)

    async def ListReceipts(
        self, request: pb.ListReceiptsRequest, context: Context
    ) -> pb.ListReceiptsResponse:
        session = await self._calls.session(request.account_id, context)
        account, people = session.context.ref, session.context.people
        check_ref("message", request.message)
        page = self._pager.page(request, account.tenant.bytes)
        message = await self._references.stored(session.context, request.message, "message")
        after = "" if page.after is None else page.after.decode()
        found = await self._messages.receipts.of(message["id"], after, page.fetch)
        await self._references.recall(session.context, [receipt.member for receipt in found])

        def shown(receipt: StoredReceipt) -> pb.Receipt:
            status = pb.MessageStatus.ValueType(receipt.status)
            at = to_timestamp(receipt.time)
            return pb.Receipt(member=people.find(receipt.member), status=status, status_time=at)

        receipts, next_page_token = page.cut(found, shown, lambda receipt: receipt.member.encode())
        return pb.ListReceiptsResponse(receipts=receipts, next_page_token=next_page_token)

    async def CancelMessage(
        self, request: pb.CancelMessageRequest, context: Context
    ) -> pb.CancelMessageResponse:
        session = await self._calls.session(request.account_id, context)
        uuid = decode(Prefix.MESSAGE, request.message_id, "message_id")
        out = session.sender.cancel(uuid)
        if out is None:
            message = await self._sending.stored(session, request.message_id)
            if message.status == pb.MESSAGE_STATUS_CANCELLED:
                return pb.CancelMessageResponse(message=message)
            why = "the network may have it already" if message.status in WAITING else "it is no longer QUEUED"
            raise FailedPrecondition(f"message {message.id} cannot be cancelled: {why}", "MESSAGE_STATE")
        micros = time.time_ns() // 1000
        event = status_event(session.context, out, pb.MESSAGE_STATUS_CANCELLED, micros)
        change = StatusChange(uuid, pb.MESSAGE_STATUS_CANCELLED, micros, event)

        async def end() -> None:
            try:
                unwrap(await self._calls.write(session, change), uuid)
            except MeshError:  # it is not cancelled
                session.sender.keep(out)
                raise
            count_status(out, pb.MESSAGE_STATUS_CANCELLED)
            session.sender.waiters.tell(uuid, out)

        await in_time(end())
        return pb.CancelMessageResponse(message=await self._sending.stored(session, request.message_id))
