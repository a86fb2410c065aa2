"""Messages on their way into an account's outbox: checked, handed to the journal, and answered once they are
stored, or sent. What SendMessage does, and every other call that makes messages.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from asyncpg import Record
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import FailedPrecondition, InvalidField, NotFound, ResourceExhausted
from mesh_core.ids import Prefix, decode, encode, new_uuid
from mesh_core.message_status import WAITING
from mesh_core.telemetry import tracing
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import in_time
from mesh_session_node.calls.messages.send_validation import check_send
from mesh_session_node.calls.outcomes import lacking
from mesh_session_node.context.message_rows import message_of_row, set_create_time
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import STATUS, is_channel, refers
from mesh_session_node.journal import Committed, Outcome, Refused, unwrap
from mesh_session_node.node.lookup import AccountLookup
from mesh_session_node.outbound.inline_files import has_inline_file
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.preparation import Preparation
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that was handed to the journal, and what becomes of it."""

    session: Session
    out: Outgoing
    done: asyncio.Future[Outcome]


class Sending:
    """Takes messages for accounts of this node."""

    def __init__(
        self,
        lookup: AccountLookup,
        messages: MessageStore,
        references: ReferenceLookup,
        preparation: Preparation,
    ) -> None:
        self._lookup = lookup
        self._messages = messages
        self._references = references
        self._preparation = preparation

    async def send(
        self,
        session: Session,
        request: pb.SendMessageRequest,
        message: pb.Message,
        method: Method = Method.SEND_MESSAGE,
    ) -> None:
        """Accept a message, and fill in the answer; raises as `accept`, and what else became of it."""
        wait_for_sent = request.wait_for == pb.WAIT_FOR_SENT
        accepted = await self.accept(session, request, method)
        if isinstance(accepted, pb.Message):
            message.CopyFrom(accepted)
            if wait_for_sent and accepted.status in WAITING:
                uuid = decode(Prefix.MESSAGE, accepted.id, "message_id")
                message.CopyFrom(await self._sent_before(session, uuid))
            return
        out, done = accepted.out, accepted.done
        if not wait_for_sent:
            self.show(accepted, await in_time(done), message)
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
            message.CopyFrom(await self.stored(session, message.id))
            return
        message.status = pb.MESSAGE_STATUS_SENT
        session.context.people.show(message, out.chat)

    async def accept(
        self, session: Session, request: pb.SendMessageRequest, method: Method = Method.SEND_MESSAGE
    ) -> Accepted | pb.Message:
        """Check a message and hand it to the journal; the message itself where an earlier call did so, and an
        album, whose parts are stored, too.

        A request that was accepted once is never refused: what was possible then need not be now.
        """
        check_send(request)
        kind = request.content.WhichOneof("kind") or ""
        if kind not in session.context.driver.content_kinds:
            raise lacking(kind)
        if request.recipient == STATUS:
            _check_post(session, request)
        elif is_channel(request.recipient):
            posting = Capability.POST_TO_CHANNELS
            if posting not in session.context.driver.capabilities:
                raise lacking(posting.value)
        if kind == "album":
            return await asyncio.shield(asyncio.create_task(self._accept_album(session, request)))
        request_id, digest = request.request_id, None
        try:
            if has_inline_file(request):
                digest = payload_digest(_payload(request))  # of what was sent: the same bytes are the same
                await self._preparation.store_inline(session.context, request, request_id)
            if refers(request):
                await self._preparation.check(session.context, request)
            return self._hand_over(session, request, method, request_id, digest)
        except (FailedPrecondition, ResourceExhausted, NotFound, InvalidField):
            digest = digest or payload_digest(_payload(request))
            row = await self._messages.accepted(session.context.ref.uuid, method, request_id, digest)
            if row is None:
                raise
            return await self.shown(session, row)

    async def _accept_album(self, session: Session, request: pb.SendMessageRequest) -> pb.Message:
        """An album is stored first, and each of its parts, whose request ids are made from its id, after it:
        so a repeat finds what there is, and stores the rest. It goes on when its caller gives up.
        """
        context, request_id = session.context, request.request_id
        digest = payload_digest(_payload(request))
        parts = [_part(request, item) for item in request.content.album.items]
        account, method = context.ref.uuid, Method.SEND_MESSAGE
        row = await self._messages.accepted(account, method, request_id, digest)
        for at, part in enumerate(parts):
            if has_inline_file(part):
                await self._preparation.store_inline(context, part, f"{request_id}/{at}")
                _set_item(request.content.album.items[at], part)
            if row is None:
                await self._preparation.check(context, part)
        message = pb.Message()
        if row is None:
            accepted = self._hand_over(session, request, method, request_id, digest)
            self.show(accepted, await in_time(accepted.done), message)
        else:
            message = await self.shown(session, row)
        handed_over = []
        for at, part in enumerate(parts):
            part.album.message_id, part.album.chat = message.id, request.recipient
            part.album.network_message_id, part.album.from_account = message.network_message_id, True
            handed_over.append(
                self._hand_over(session, part, Method.SEND_ALBUM_PART, f"{message.id}/{at}", None)
            )
        for one in handed_over:
            self._stored_as(one, await in_time(one.done))
        return message

    def show(self, accepted: Accepted, outcome: Outcome, message: pb.Message) -> None:
        """The answer to a caller whose message was stored, now or before; raises what else became of it."""
        uuid = self._stored_as(accepted, outcome)
        _show_accepted(message, accepted.session, accepted.out, uuid)

    async def stored(self, session: Session, message_id: str) -> pb.Message:
        """A stored message. Raises `NotFound`."""
        uuid = decode(Prefix.MESSAGE, message_id, "message_id")
        row = await self._messages.message(session.context.ref.uuid, uuid)
        if row is None:
            raise NotFound("message", message_id)
        return await self.shown(session, row)

    async def shown(self, session: Session, row: Record) -> pb.Message:
        """A row's message, as the API shows it."""
        await self._references.recall(session.context, [row["chat"]])
        return message_of_row(session.id, session.context.people, row)

    async def _sent_before(self, session: Session, uuid: UUID) -> pb.Message:
        """A message that was accepted by an earlier call, once it is SENT or has ended."""
        waiters = session.sender.waiters
        waiter = waiters.add(uuid)
        try:
            await in_time(session.context.host.journal.flush())
            message = await self.stored(session, encode(Prefix.MESSAGE, uuid))
            if message.status not in WAITING:
                return message
            await waiter
            await in_time(session.context.host.journal.flush())
            return await self.stored(session, message.id)
        finally:
            waiters.remove(uuid, waiter)

    def _hand_over(
        self,
        session: Session,
        request: pb.SendMessageRequest,
        method: Method,
        request_id: str,
        digest: bytes | None,
    ) -> Accepted:
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
        done = session.sender.acceptance.accept(out, method, request_id, digest, payload, now)
        return Accepted(session, out, done)

    def _stored_as(self, accepted: Accepted, outcome: Outcome) -> UUID:
        """The id of a message that was stored, now or before; raises what else became of it."""
        uuid = accepted.out.uuid
        if isinstance(outcome, Committed):
            return uuid
        if isinstance(outcome, Refused):
            raise self._lookup.refused(accepted.session)
        return unwrap(outcome, uuid)


def _check_post(session: Session, request: pb.SendMessageRequest) -> None:
    """Raises where the account's network cannot show a status post to those that it is for."""
    only = request.options.audience.kind == pb.STATUS_AUDIENCE_KIND_ONLY
    needed = Capability.STATUS if only else Capability.STATUS_TO_CONTACTS
    if needed not in session.context.driver.capabilities:
        raise lacking(needed.value)


def _part(album: pb.SendMessageRequest, item: content_pb2.AlbumItem) -> pb.SendMessageRequest:
    """The message that an album's item becomes."""
    part = pb.SendMessageRequest()
    part.CopyFrom(album)
    part.options.ClearField("reply_to")
    part.options.ClearField("mentions")
    if not part.options.ByteSize():
        part.ClearField("options")
    kind = item.WhichOneof("kind") or ""
    getattr(part.content, kind).CopyFrom(getattr(item, kind))
    return part


def _set_item(item: content_pb2.AlbumItem, part: pb.SendMessageRequest) -> None:
    """The item as its part has it, whose file is stored."""
    kind = item.WhichOneof("kind") or ""
    getattr(item, kind).CopyFrom(getattr(part.content, kind))


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
