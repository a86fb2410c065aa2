"""MessageService. `send_message` is the mesh's hottest call: bytes in, bytes out, and one future awaited."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from functools import partial

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError

from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import (
    FailedPrecondition,
    InvalidArgument,
    InvalidField,
    MeshError,
    NotFound,
    ResourceExhausted,
)
from mesh_core.ids import Prefix, decode, encode, new_uuid
from mesh_core.message_status import WAITING
from mesh_core.paging import Pager
from mesh_core.rpc.server.status import details_of
from mesh_core.telemetry import tracing
from mesh_core.validation import MAX_BATCH, to_timestamp
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time, patience
from mesh_session_node.calls.message_filters import message_filter
from mesh_session_node.calls.send_validation import check_send
from mesh_session_node.context.message_rows import message_of_row, set_create_time
from mesh_session_node.drivers.interface.content import refers
from mesh_session_node.journal import Committed, Outcome, Refused, StatusChange, unwrap
from mesh_session_node.outbound.inline_files import has_inline_file
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.preparation import Preparation
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
        accepted: list[_Accepted | pb.Message | MeshError] = []
        for item in messages:
            names.append((item.account_id, item.request_id))
            try:
                session = await self._lookup.visible(item.account_id)
                accepted.append(await self._accept(session, item))
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
                uuid = self._stored_as(one, await in_time(one.done, until))
                _show_accepted(result.message, one.session, one.out, uuid)
            except MeshError as error:
                result.error.MergeFromString(details_of(error))
        return response.SerializeToString()

    async def GetMessage(self, request: pb.GetMessageRequest, context: Context) -> pb.GetMessageResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        row = await self._references.stored(session.context, request.message, "message")
        message = await self._shown(session, row)
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
            row = await self._references.by_network_id(session.context, request.network_message_id)
            wanted = replace(wanted, ids=[] if row is None else [row["id"]])
        rows = await self._messages.page(account.uuid, wanted, page.fetch)
        await self._references.recall(session.context, [row["chat"] for row in rows])
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
        message = await self._references.stored(session.context, request.message, "message")
        after = "" if page.after is None else page.after.decode()
        rows = await self._messages.receipts(message["id"], after, page.fetch)
        await self._references.recall(session.context, [row["member"] for row in rows])

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
            session.sender.waiters.tell(uuid, out)

        await in_time(end())
        return pb.CancelMessageResponse(message=await self._stored(session, request.message_id))

    # --- sending

    async def _send(self, session: Session, request: pb.SendMessageRequest, message: pb.Message) -> None:
        """Accept a message, and fill in the answer."""
        wait_for_sent = request.wait_for == pb.WAIT_FOR_SENT
        accepted = await self._accept(session, request)
        if isinstance(accepted, pb.Message):
            message.CopyFrom(accepted)
            if wait_for_sent and accepted.status in WAITING:
                uuid = decode(Prefix.MESSAGE, accepted.id, "message_id")
                message.CopyFrom(await self._sent_before(session, uuid))
            return
        out, done = accepted.out, accepted.done
        if not wait_for_sent:
            outcome = await in_time(done)
            _show_accepted(message, session, out, self._stored_as(accepted, outcome))
            return
        waiter = session.sender.waiters.add(out.uuid)
        try:
            outcome = await in_time(done)
            uuid = self._stored_as(accepted, outcome)
            _show_accepted(message, session, out, uuid)
            if uuid is not out.uuid:
                message.CopyFrom(await self._sent_before(session, uuid))
                return
            ended = await waiter
        finally:
            session.sender.waiters.remove(out.uuid, waiter)
        # What the answer says, the next call finds
        await in_time(session.context.host.journal.flush())
        if ended is not None:
            message.CopyFrom(await self._stored(session, message.id))
            return
        message.status = pb.MESSAGE_STATUS_SENT
        session.context.people.show(message, out.chat)

    async def _sent_before(self, session: Session, uuid: UUID) -> pb.Message:
        """A message that was accepted by an earlier call, once it is SENT or has ended."""
        waiters = session.sender.waiters
        waiter = waiters.add(uuid)
        try:
            await in_time(session.context.host.journal.flush())
            message = await self._stored(session, encode(Prefix.MESSAGE, uuid))
            if message.status not in WAITING:
                return message
            await waiter
            await in_time(session.context.host.journal.flush())
            return await self._stored(session, message.id)
        finally:
            waiters.remove(uuid, waiter)

    async def _accept(self, session: Session, request: pb.SendMessageRequest) -> _Accepted | pb.Message:
        """Check a message and hand it to the journal; the message itself where an earlier call did so.

        A request that was accepted once is never refused: what was possible then need not be now.
        """
        check_send(request)
        kind = request.content.WhichOneof("kind") or ""
        if kind not in session.context.driver.content_kinds:
            raise FailedPrecondition(f"the account's network has no {kind}", "UNSUPPORTED_BY_NETWORK")
        request_id, digest = request.request_id, None
        try:
            if has_inline_file(request):
                digest = payload_digest(_payload(request))  # of what was sent: the same bytes are the same
                await self._preparation.store_inline(session.context, request, request_id)
            if refers(request):
                await self._preparation.check(session.context, request)
            return self._hand_over(session, request, request_id, digest)
        except (FailedPrecondition, ResourceExhausted, NotFound, InvalidField):
            digest = digest or payload_digest(_payload(request))
            earlier = await self._accepted_before(session, request_id, digest)
            if earlier is None:
                raise
            return earlier

    def _hand_over(
        self, session: Session, request: pb.SendMessageRequest, request_id: str, digest: bytes | None
    ) -> _Accepted:
        """Nothing is awaited, so what is checked here still holds."""
        self._lookup.check_owner(session.context.ref.shard)
        if session.context.closed:
            raise self._lookup.not_owner(session.context.ref.shard)
        if not session.paired:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        now = time.time()
        if request.HasField("expire_time") and request.expire_time.ToNanoseconds() <= now * 1e9:
            raise InvalidField("expire_time", "must be in the future")
        payload = _payload(request)
        session.sender.acceptance.check_room(len(payload))
        uuid = new_uuid()
        traceparent = tracing.current_traceparent()
        if tracing.is_sampled(traceparent):
            span = tracing.start_span("mesh.node.accept", attributes={"mesh.account.id": session.id})
            traceparent = span.traceparent
            span.end()
        network_id = session.context.driver.network_id(uuid)
        out = Outgoing(uuid, network_id, request.recipient, request, traceparent)
        out.size = len(payload)
        if out.due is not None and out.due <= now:
            out.due = None
        digest = digest or payload_digest(payload)
        done = session.sender.acceptance.accept(out, Method.SEND_MESSAGE, request_id, digest, payload, now)
        return _Accepted(session, out, done)

    async def _accepted_before(self, session: Session, request_id: str, digest: bytes) -> pb.Message | None:
        """The message of an earlier call with this request, which has passed `check_send`."""
        row = await self._messages.accepted(session.context.ref.uuid, request_id, digest)
        return None if row is None else await self._shown(session, row)

    def _stored_as(self, accepted: _Accepted, outcome: Outcome) -> UUID:
        """The id of a message that was stored, now or before; raises what else became of it."""
        uuid = accepted.out.uuid
        if isinstance(outcome, Committed):
            return uuid
        if isinstance(outcome, Refused):
            raise self._lookup.refused(accepted.session)
        return unwrap(outcome, uuid)

    async def _stored(self, session: Session, message_id: str) -> pb.Message:
        uuid = decode(Prefix.MESSAGE, message_id, "message_id")
        row = await self._messages.message(session.context.ref.uuid, uuid)
        if row is None:
            raise NotFound("message", message_id)
        return await self._shown(session, row)

    async def _shown(self, session: Session, row: Record) -> pb.Message:
        await self._references.recall(session.context, [row["chat"]])
        return message_of_row(session.id, session.context.people, row)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A message that was handed to the journal, and what becomes of it."""

    session: Session
    out: Outgoing
    done: asyncio.Future[Outcome]


def _payload(request: pb.SendMessageRequest) -> bytes:
    """What is stored of a request, and told apart from another one with its id; the rest is cleared."""
    for field in ("request_id", "account_id", "wait_for"):
        request.ClearField(field)
    return request.SerializeToString(deterministic=True)


def _show_accepted(message: pb.Message, session: Session, out: Outgoing, uuid: UUID) -> None:
    """The answer to a caller whose message was stored, now or before."""
    if uuid is out.uuid:
        message.id, message.network_message_id = out.id, out.network_id
    else:
        message.id = encode(Prefix.MESSAGE, uuid)
        message.network_message_id = session.context.driver.network_id(uuid)
    message.account_id = session.id
    message.direction = pb.DIRECTION_OUTBOUND
    message.status = pb.MESSAGE_STATUS_QUEUED
    message.chat = out.chat
    session.context.people.show(message, out.chat)
    set_create_time(message, uuid)
