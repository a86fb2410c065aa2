"""MessageService. `send_message` is the mesh's hottest call: bytes in, bytes out, and one future awaited."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError

from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import FailedPrecondition, InvalidArgument, InvalidField, MeshError, NotFound
from mesh_core.ids import Prefix, decode, encode, new_uuid
from mesh_core.message_status import WAITING
from mesh_core.paging import Pager
from mesh_core.rpc.server.status import details_of
from mesh_core.telemetry import tracing
from mesh_core.validation import MAX_BATCH, to_timestamp
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context
from mesh_session_node.calls.message_filters import message_filter
from mesh_session_node.calls.send_validation import check_send
from mesh_session_node.context.message_rows import message_of_row, set_create_time
from mesh_session_node.journal import Committed, Outcome, Refused, StatusChange, unwrap
from mesh_session_node.outbound.outgoing import Outgoing, network_id_of
from mesh_session_node.outbound.preparation import Preparation, has_references
from mesh_session_node.outbound.references import ReferenceLookup, check_ref
from mesh_session_node.outbound.statuses import status_event
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import message_pb2_grpc

_parse = pb.SendMessageRequest.FromString


class MessageService(message_pb2_grpc.MessageServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(
        self,
        calls: AccountCalls,
        messages: MessageStore,
        references: ReferenceLookup,
        preparation: Preparation,
        pager: Pager,
    ) -> None:
        self._calls = calls
        self._lookup = calls.lookup
        self._messages = messages
        self._references = references
        self._preparation = preparation
        self._pager = pager

    async def send_message(self, raw: bytes, context: Context) -> bytes:
        """SendMessage, from bytes to bytes."""
        try:
            request = _parse(raw)
        except DecodeError:
            raise InvalidArgument("the request is not a SendMessageRequest", "INVALID_FIELD") from None
        session = await self._calls.session(request.account_id, context)
        response = pb.SendMessageResponse()
        await self._send(session, request, response.message)
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
        accepted: list[tuple[Session, Outgoing, asyncio.Future[Outcome]] | MeshError] = []
        for item in messages:
            names.append((item.account_id, item.request_id))
            try:
                session = await self._lookup.visible(item.account_id)
                if has_references(item):
                    check_send(item)
                    await self._preparation.check(session.context, item)
                accepted.append((session, *self._accept(session, item)))
            except MeshError as error:
                accepted.append(error)
        for (account_id, request_id), one in zip(names, accepted, strict=True):
            result = response.results.add(account_id=account_id, request_id=request_id)
            try:
                if isinstance(one, MeshError):
                    raise one
                session, out, done = one
                _show_accepted(result.message, session, out, self._accepted(session, out, await done))
            except MeshError as error:
                result.error.MergeFromString(details_of(error))
        return response.SerializeToString()

    async def GetMessage(self, request: pb.GetMessageRequest, context: Context) -> pb.GetMessageResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        row = await self._references.stored(session.context.ref.uuid, request.message, "message")
        message = message_of_row(session.id, session.context.people, row)
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
        if request.network_message_id:
            row = await self._references.by_network_id(account.uuid, request.network_message_id)
            wanted = replace(wanted, ids=[] if row is None else [row["id"]])
        rows = await self._messages.page(account.uuid, wanted, page.fetch)
        shown = partial(message_of_row, session.id, session.context.people)
        messages, next_page_token = page.cut(rows, shown)
        return pb.ListMessagesResponse(messages=messages, next_page_token=next_page_token)

    async def ListReceipts(
        self, request: pb.ListReceiptsRequest, context: Context
    ) -> pb.ListReceiptsResponse:
        session = await self._calls.session(request.account_id, context)
        account, people = session.context.ref, session.context.people
        check_ref("message", request.message)
        page = self._pager.page(request, account.tenant.bytes)
        message = await self._references.stored(account.uuid, request.message, "message")
        after = "" if page.after is None else page.after.decode()
        rows = await self._messages.receipts(message["id"], after, page.fetch)

        def shown(row: Record) -> pb.Receipt:
            return pb.Receipt(
                member=people.find(row["member"]), status=row["status"], status_time=to_timestamp(row["time"])
            )

        receipts, next_page_token = page.cut(rows, shown, lambda row: row["member"].encode())
        return pb.ListReceiptsResponse(receipts=receipts, next_page_token=next_page_token)

    async def CancelMessage(
        self, request: pb.CancelMessageRequest, context: Context
    ) -> pb.CancelMessageResponse:
        session = await self._calls.session(request.account_id, context)
        uuid = decode(Prefix.MESSAGE, request.message_id, "message_id")
        out = session.sender.cancel(uuid)
        if out is None:
            message = await self._stored(session, request.message_id)
            if message.status == pb.MESSAGE_STATUS_CANCELLED:
                return pb.CancelMessageResponse(message=message)
            raise FailedPrecondition(f"message {message.id} is no longer QUEUED", "MESSAGE_STATE")
        micros = time.time_ns() // 1000
        event = status_event(session.context, out, pb.MESSAGE_STATUS_CANCELLED, micros)
        await self._calls.write(session, StatusChange(uuid, pb.MESSAGE_STATUS_CANCELLED, micros, event))
        return pb.CancelMessageResponse(message=await self._stored(session, request.message_id))

    # --- sending

    async def _send(self, session: Session, request: pb.SendMessageRequest, message: pb.Message) -> None:
        """Accept a message, and fill in the answer."""
        wait_for_sent = request.wait_for == pb.WAIT_FOR_SENT
        if has_references(request):
            check_send(request)
            await self._preparation.check(session.context, request)
        out, done = self._accept(session, request)
        if not wait_for_sent:
            outcome = await done
            _show_accepted(message, session, out, self._accepted(session, out, outcome))
            return
        waiter = session.sender.waiters.add(out.uuid)
        try:
            outcome = await done
            uuid = self._accepted(session, out, outcome)
            _show_accepted(message, session, out, uuid)
            if uuid is not out.uuid:
                message.CopyFrom(await self._sent_before(session, uuid))
                return
            ended = await waiter
        finally:
            session.sender.waiters.remove(out.uuid, waiter)
        if ended is not None:
            await session.context.host.journal.flush()
            message.CopyFrom(await self._stored(session, message.id))
            return
        message.status = pb.MESSAGE_STATUS_SENT
        session.context.people.show(message, out.chat)

    async def _sent_before(self, session: Session, uuid: UUID) -> pb.Message:
        """A message that was accepted by an earlier call, once it is SENT or has ended."""
        waiters = session.sender.waiters
        waiter = waiters.add(uuid)
        try:
            await session.context.host.journal.flush()
            message = await self._stored(session, encode(Prefix.MESSAGE, uuid))
            if message.status not in WAITING:
                return message
            await waiter
            await session.context.host.journal.flush()
            return await self._stored(session, message.id)
        finally:
            waiters.remove(uuid, waiter)

    def _accept(
        self, session: Session, request: pb.SendMessageRequest
    ) -> tuple[Outgoing, asyncio.Future[Outcome]]:
        """Check a message and hand it to the journal. Nothing is awaited, so what was checked still holds.

        Returns the message, and the future of its outcome.
        """
        check_send(request)
        self._lookup.check_owner(session.context.ref.shard)
        if session.context.closed:
            raise self._lookup.not_owner(session.context.ref.shard)
        if not session.paired:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        session.sender.check_room()
        request_id = request.request_id
        request.ClearField("request_id")
        request.ClearField("account_id")
        request.ClearField("wait_for")
        payload = request.SerializeToString(deterministic=True)
        uuid = new_uuid()
        traceparent = tracing.current_traceparent()
        if tracing.is_sampled(traceparent):
            span = tracing.start_span("mesh.node.accept", attributes={"mesh.account.id": session.id})
            traceparent = span.traceparent
            span.end()
        out = Outgoing(uuid, request.recipient, request, traceparent)
        now = time.time()
        if out.due is not None and out.due <= now:
            out.due = None
        done = session.sender.accept(
            out, Method.SEND_MESSAGE, request_id, payload_digest(payload), payload, now
        )
        return out, done

    def _accepted(self, session: Session, out: Outgoing, outcome: Outcome) -> UUID:
        """The id of a message that was stored, now or before; raises what else became of it."""
        if isinstance(outcome, Committed):
            return out.uuid
        if isinstance(outcome, Refused):
            raise self._lookup.refused(session)
        return unwrap(outcome, out.uuid)

    async def _stored(self, session: Session, message_id: str) -> pb.Message:
        uuid = decode(Prefix.MESSAGE, message_id, "message_id")
        row = await self._messages.message(session.context.ref.uuid, uuid)
        if row is None:
            raise NotFound("message", message_id)
        return message_of_row(session.id, session.context.people, row)


def _show_accepted(message: pb.Message, session: Session, out: Outgoing, uuid: UUID) -> None:
    """The answer to a caller whose message was stored, now or before."""
    if uuid is out.uuid:
        message.id, message.network_message_id = out.id, out.network_id
    else:
        message.id, message.network_message_id = encode(Prefix.MESSAGE, uuid), network_id_of(uuid)
    message.account_id = session.id
    message.direction = pb.DIRECTION_OUTBOUND
    message.status = pb.MESSAGE_STATUS_QUEUED
    message.chat = out.chat
    session.context.people.show(message, out.chat)
    set_create_time(message, uuid)
