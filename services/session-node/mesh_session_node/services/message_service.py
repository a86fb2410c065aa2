"""MessageService. `send_message` is the mesh's hottest call: bytes in, bytes out, and one future awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from mesh_core import paging
from mesh_core.auth import current_identity
from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import FailedPrecondition, InvalidArgument, InvalidField, MeshError, NotFound
from mesh_core.ids import Prefix, decode, encode, new_uuid
from mesh_core.journal import COMMITTED, Committed, Outcome, Refused, StatusChange, unwrap
from mesh_core.server.status import details_of
from mesh_core.telemetry import tracing
from mesh_core.validation import timestamp
from mesh_session_node import validation
from mesh_session_node.addresses import address_of
from mesh_session_node.messages import add_receipts, message_of_row, set_create_time
from mesh_session_node.node import Node
from mesh_session_node.queries import MESSAGE_COLUMNS
from mesh_session_node.session.outgoing import Outgoing, network_id_of
from mesh_session_node.session.session import Session
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import message_pb2_grpc

Context = ServicerContext[Any, Any]
_parse = pb.SendMessageRequest.FromString
_FRAMES_AHEAD = 16
_MOST_IN_FRAME = 1000
_NEEDS_LOOKUP = frozenset({*validation.MEDIA_KINDS, "reaction"})


@dataclass(slots=True)
class _Frame:
    """A frame whose items have been accepted or refused; `waiting` are those that are being stored."""

    response: pb.SendMessagesResponse
    waiting: list[tuple[tuple[str, str], Session, Outgoing, asyncio.Future[Outcome]]]


class MessageService(message_pb2_grpc.MessageServiceServicer):
    """What it does not define is answered UNIMPLEMENTED by the chassis."""

    def __init__(self, node: Node, pager: paging.Pager) -> None:
        self._node = node
        self._shards = node.shards
        self._sessions = node.shards.sessions
        self._pager = pager

    async def send_message(self, raw: bytes, context: Context) -> bytes:
        """SendMessage, from bytes to bytes."""
        try:
            request = _parse(raw)
        except DecodeError:
            raise InvalidArgument("the request is not a SendMessageRequest", "INVALID_FIELD") from None
        validation.check_account_header(context.invocation_metadata(), request.account_id)
        message = await self._send(request)
        return pb.SendMessageResponse(message=message).SerializeToString()

    async def SendMessages(
        self, request_iterator: AsyncIterator[pb.SendMessagesRequest], _context: Context
    ) -> AsyncIterator[pb.SendMessagesResponse]:
        """Frames of messages of accounts that are owned here; the router splits frames by owner.

        A frame is accepted as it comes, while the ones before it are being stored, up to a bound.
        """
        frames: asyncio.Queue[_Frame | None] = asyncio.Queue()
        room = asyncio.Semaphore(_FRAMES_AHEAD)

        async def accept_all() -> None:
            try:
                async for request in request_iterator:
                    await room.acquire()
                    frames.put_nowait(await self._accept_frame(request))
            finally:
                frames.put_nowait(None)

        accepting = asyncio.create_task(accept_all(), name="accept frames")
        try:
            while (frame := await frames.get()) is not None:
                yield await self._frame_result(frame)
                room.release()
            await accepting
        finally:
            accepting.cancel()

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

    async def _send(self, request: pb.SendMessageRequest) -> pb.Message:
        session = await self._session(request.account_id)
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

    async def _accept_frame(self, request: pb.SendMessagesRequest) -> _Frame:
        if len(request.messages) > _MOST_IN_FRAME:
            raise InvalidField("messages", f"must have at most {_MOST_IN_FRAME:,} entries")
        frame = _Frame(pb.SendMessagesResponse(), [])
        for item in request.messages:
            name = item.account_id, item.request_id
            try:
                session = await self._session(item.account_id)
                if self._needs_lookup(item):
                    validation.check_send(item)
                    await self._node.preparing.check(session, item)
                frame.waiting.append((name, session, *self._accept(session, item)))
            except MeshError as error:
                _add_error(frame.response, name, error)
        return frame

    async def _frame_result(self, frame: _Frame) -> pb.SendMessagesResponse:
        for name, session, out, done in frame.waiting:
            try:
                message = self._result(session, out, await done)
            except MeshError as error:
                _add_error(frame.response, name, error)
            else:
                frame.response.results.add(account_id=name[0], request_id=name[1], message=message)
        return frame.response

    # --- finding

    async def _called(self, account_id: str, context: Context) -> Session:
        validation.check_account_header(context.invocation_metadata(), account_id)
        return await self._session(account_id)

    async def _session(self, account_id: str) -> Session:
        """The session, when it runs here and the caller may know of it."""
        session = self._sessions.get(account_id)
        if session is None or session.account.deleted:
            session = await self._shards.find(account_id)
        else:
            self._shards.check_owner(session.ref.shard)
        current_identity().check_sees(session.ref.tenant, "account", account_id)
        return session

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
