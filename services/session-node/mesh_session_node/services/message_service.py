"""MessageService. `send_message` is the mesh's hottest call: bytes in, bytes out, and one future awaited."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from mesh_core import paging
from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import FailedPrecondition, InvalidArgument, InvalidField, MeshError, NotFound
from mesh_core.ids import Prefix, decode, encode, new_uuid
from mesh_core.rpc.server.status import details_of
from mesh_core.telemetry import tracing
from mesh_core.validation import timestamp
from mesh_session_node import validation
from mesh_session_node.drivers.interface.content import address_of
from mesh_session_node.journal import COMMITTED, Committed, Outcome, Refused, StatusChange, unwrap
from mesh_session_node.messages import add_receipts, message_of_row, set_create_time
from mesh_session_node.node import Node
from mesh_session_node.queries import MESSAGE_COLUMNS
from mesh_session_node.session.outgoing import Outgoing, network_id_of
from mesh_session_node.session.session import Session
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import message_pb2_grpc

Context = ServicerContext[Any, Any]
_parse = pb.SendMessageRequest.FromString
_MOST_IN_FRAME = 1000
_NEEDS_LOOKUP = frozenset({*validation.MEDIA_KINDS, "reaction"})


class MessageService(message_pb2_grpc.MessageServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(self, node: Node, pager: paging.Pager) -> None:
        self._node = node
        self._shards = node.shards
        self._pager = pager

    async def send_message(self, raw: bytes, context: Context) -> bytes:
        """SendMessage, from bytes to bytes."""
        try:
            request = _parse(raw)
        except DecodeError:
            raise InvalidArgument("the request is not a SendMessageRequest", "INVALID_FIELD") from None
        session = await self._called(request.account_id, context)
        message = await self._send(session, request)
        return pb.SendMessageResponse(message=message).SerializeToString()

    async def accept_messages(self, raw: bytes, _context: Context) -> bytes:
        """NodeService.AcceptMessages: messages of accounts that are owned here."""
        try:
            messages = pb.SendMessagesRequest.FromString(raw).messages
        except DecodeError:
            raise InvalidArgument("the request is not an AcceptMessagesRequest", "INVALID_FIELD") from None
        if len(messages) > _MOST_IN_FRAME:
            raise InvalidField("messages", f"must have at most {_MOST_IN_FRAME:,} entries")
        response = pb.SendMessagesResponse()
        waiting: list[tuple[tuple[str, str], Session, Outgoing, asyncio.Future[Outcome]]] = []
        for item in messages:
            name = item.account_id, item.request_id
            try:
                session = await self._shards.visible(item.account_id)
                if self._needs_lookup(item):
                    validation.check_send(item)
                    await self._node.preparing.check(session, item)
                waiting.append((name, session, *self._accept(session, item)))
            except MeshError as error:
                _add_error(response, name, error)
        for name, session, out, done in waiting:
            try:
                message = self._result(session, out, await done)
            except MeshError as error:
                _add_error(response, name, error)
            else:
                response.results.add(account_id=name[0], request_id=name[1], message=message)
        return response.SerializeToString()

    async def GetMessage(self, request: pb.GetMessageRequest, context: Context) -> pb.GetMessageResponse:
        session = await self._called(request.account_id, context)
        return pb.GetMessageResponse(message=await self._stored(session, request.message_id))

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        session = await self._called(request.account_id, context)
        filters = paging.listing(request, session.ref.tenant.bytes)
        page = self._pager.parse(request.page_size, request.page_token, filters)
        oldest_first = request.order == 2  # LIST_ORDER_OLDEST_FIRST
        arguments: list[Any] = [session.ref.uuid]
        where = ["account = $1"]

        def add(condition: str, value: object) -> None:
            arguments.append(value)
            where.append(condition.replace("?", f"${len(arguments)}"))

        if request.HasField("chat"):
            validation.check_recipient("chat", request.chat)
            add("chat = ?", address_of(request.chat))
        if request.direction:
            add("direction = ?", request.direction)
        if request.statuses:
            add("status = ANY (?)", [*request.statuses])
        if request.HasField("start_time"):
            add("id >= uuid_at(?)", timestamp("start_time", request.start_time))
        if request.HasField("end_time"):
            add("id < uuid_at(?)", timestamp("end_time", request.end_time))
        if page.after is not None:
            add("id > ?" if oldest_first else "id < ?", UUID(page.after))
        arguments.append(page.limit + 1)
        rows = await self._node.queries.fetch_rows(
            f"SELECT {MESSAGE_COLUMNS} FROM message WHERE {' AND '.join(where)} "  # noqa: S608 - all values are arguments
            f"ORDER BY id {'ASC' if oldest_first else 'DESC'} LIMIT ${len(arguments)}",
            *arguments,
        )
        response = pb.ListMessagesResponse(
            messages=[message_of_row(session.id, row) for row in rows[: page.limit]]
        )
        if len(rows) > page.limit:
            response.next_page_token = self._pager.token(rows[page.limit - 1]["id"].bytes, filters)
        return response

    async def CancelMessage(
        self, request: pb.CancelMessageRequest, context: Context
    ) -> pb.CancelMessageResponse:
        session = await self._called(request.account_id, context)
        uuid = decode(Prefix.MESSAGE, request.message_id, "message_id")
        out = session.sender.outbox.remove(uuid)
        if out is None or out.attempts:
            if out is not None:  # the network may have it
                session.sender.outbox.push(out, time.time())
            message = await self._stored(session, request.message_id)
            if message.status == pb.MESSAGE_STATUS_CANCELLED:
                return pb.CancelMessageResponse(message=message)
            raise FailedPrecondition(f"message {message.id} is no longer QUEUED", "MESSAGE_STATE")
        micros = time.time_ns() // 1000
        event = session.events.status(out, pb.MESSAGE_STATUS_CANCELLED, micros)
        change = StatusChange(uuid, pb.MESSAGE_STATUS_CANCELLED, micros, event)
        if isinstance(await self._node.journal.write(session.ref, change), Refused):
            raise self._node.refused(session)
        return pb.CancelMessageResponse(message=await self._stored(session, request.message_id))

    # --- sending

    async def _send(self, session: Session, request: pb.SendMessageRequest) -> pb.Message:
        wait_for_sent = request.wait_for == pb.WAIT_FOR_SENT
        if self._needs_lookup(request):
            validation.check_send(request)
            await self._node.preparing.check(session, request)
        out, done = self._accept(session, request)
        if not wait_for_sent:
            return self._result(session, out, await done)
        waiter = session.sender.waiters.add(out.uuid)
        try:
            outcome = await done
            message = self._result(session, out, outcome)
            if outcome is not COMMITTED:
                return await self._stored(session, message.id)
            ended = await waiter
        finally:
            session.sender.waiters.remove(out.uuid, waiter)
        if ended is not None:
            await self._node.journal.flush()
            return await self._stored(session, message.id)
        message.status = pb.MESSAGE_STATUS_SENT
        return message

    def _accept(
        self, session: Session, request: pb.SendMessageRequest
    ) -> tuple[Outgoing, asyncio.Future[Outcome]]:
        """Put a message into the open batch, between one turn of the loop and the next."""
        validation.check_send(request)
        self._shards.check_owner(session.ref.shard)
        if session.closed:
            raise self._shards.not_owner(session.ref.shard)
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
        out = Outgoing(session, uuid, address_of(request.recipient), request, traceparent)
        now = time.time()
        if out.due is not None and out.due <= now:
            out.due = None
        done = session.sender.accept(
            out, Method.SEND_MESSAGE, request_id, payload_digest(payload), payload, now
        )
        return out, done

    def _result(self, session: Session, out: Outgoing, outcome: Outcome) -> pb.Message:
        """The answer to a caller whose message was stored, now or before."""
        uuid, name, network_id = out.uuid, out.id, out.network_id
        if not isinstance(outcome, Committed):
            if isinstance(outcome, Refused):
                raise self._node.refused(session)
            uuid = unwrap(outcome, out.uuid)
            name, network_id = encode(Prefix.MESSAGE, uuid), network_id_of(uuid)
        message = pb.Message(
            id=name,
            account_id=session.id,
            direction=pb.DIRECTION_OUTBOUND,
            status=pb.MESSAGE_STATUS_QUEUED,
            network_message_id=network_id,
        )
        set_create_time(message, uuid)
        return message

    @staticmethod
    def _needs_lookup(request: pb.SendMessageRequest) -> bool:
        if request.content.WhichOneof("kind") in _NEEDS_LOOKUP:
            return True
        return request.HasField("options") and bool(request.options.reply_to_message_id)

    # --- finding

    async def _called(self, account_id: str, context: Context) -> Session:
        return await self._shards.called(context.invocation_metadata(), account_id)

    async def _stored(self, session: Session, message_id: str) -> pb.Message:
        uuid = decode(Prefix.MESSAGE, message_id, "message_id")
        row = await self._node.queries.message(session.ref.uuid, uuid)
        if row is None:
            raise NotFound("message", message_id)
        message = message_of_row(session.id, row)
        if row["chat"].startswith("group:"):
            add_receipts(message, await self._node.queries.receipts(uuid))
        return message


def _add_error(response: pb.SendMessagesResponse, key: tuple[str, str], error: MeshError) -> None:
    result = response.results.add(account_id=key[0], request_id=key[1])
    result.error.status = details_of(error)
