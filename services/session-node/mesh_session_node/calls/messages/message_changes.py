"""The calls of MessageService that change what a message says: edited, taken back, moved."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from asyncpg import Record

from mesh_core.database.requests import Method
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_core.ids import new_uuid
from mesh_core.message_status import WAITING
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context
from mesh_session_node.calls.messages.content_validation import (
    check_content,
    check_live_location,
    check_text,
)
from mesh_session_node.calls.messages.sending import Sending
from mesh_session_node.context.media_uses import revoked_media_use
from mesh_session_node.context.message_rows import content_of_row, message_of_row
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import Reference, References, is_channel, is_person
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.inbound.votes import own_person
from mesh_session_node.journal import ContentUpdate, Row
from mesh_session_node.outbound.references import ReferenceLookup, check_ref
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef


class MessageChanges:
    """Part of `MessageService`."""

    def __init__(
        self, calls: AccountCalls, references: ReferenceLookup, sending: Sending, changes: ContentChanges
    ) -> None:
        self._calls = calls
        self._references = references
        self._sending = sending
        self._changes = changes

    async def EditMessage(self, request: pb.EditMessageRequest, context: Context) -> pb.EditMessageResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        _check_edit(request.content)
        found, _ = await self._references.find(session.context, request.message, "message")
        if found.sender and not is_channel(found.chat):  # of whose posts nobody knows who wrote them
            raise InvalidField("message", "was not written by the account")

        async def act() -> tuple[pb.EditMessageResponse, Sequence[Row]]:
            target, row = await self._sent(session, request.message)
            message = self._message(session, target, row)
            _edit(message, request.content)
            await self._say(session, Capability.EDIT, target, message.content)
            return pb.EditMessageResponse(message=message), _changed(session, "message.edited", message, row)

        turn = self._changes.turn(session.context, found.network_id)
        answer = pb.EditMessageResponse
        return await self._calls.answered(session, Method.EDIT_MESSAGE, request, answer, act, turn=turn)

    async def RevokeMessage(
        self, request: pb.RevokeMessageRequest, context: Context
    ) -> pb.RevokeMessageResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        found, _ = await self._references.find(session.context, request.message, "message")
        if found.sender and is_person(found.chat):
            raise InvalidField("message", "of somebody else can be taken back in groups and channels only")

        async def act() -> tuple[pb.RevokeMessageResponse, Sequence[Row]]:
            target, row = await self._sent(session, request.message)
            message = self._message(session, target, row)
            network_id = session.context.driver.network_id(new_uuid())
            await self._calls.act(
                session,
                Capability.REVOKE,
                lambda link: link.revoke(network_id, target),
                about=target.network_id,
            )
            if row is None:
                return pb.RevokeMessageResponse(), ()
            file = revoked_media_use(row["id"], message.content)
            message.content.revoked.actor.CopyFrom(own_person(session.context))
            rows = _changed(session, "message.revoked", message, row)
            return pb.RevokeMessageResponse(message=message), rows if file is None else [*rows, file]

        turn = self._changes.turn(session.context, found.network_id)
        answer = pb.RevokeMessageResponse
        return await self._calls.answered(session, Method.REVOKE_MESSAGE, request, answer, act, turn=turn)

    async def UpdateLiveLocation(
        self, request: pb.UpdateLiveLocationRequest, context: Context
    ) -> pb.UpdateLiveLocationResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        if not request.end and not request.HasField("location"):
            raise InvalidField("location", "is required, or end")
        if request.HasField("location"):
            request.location.ClearField("duration")
            check_live_location("location", request.location)
        row = await self._references.stored(session.context, request.message, "message")
        shared = message_of_row(session.id, session.context.people, row)
        _check_shared(shared)
        if request.end:
            return await self._end_live_location(session, request, shared)
        send = pb.SendMessageRequest(
            account_id=request.account_id, request_id=request.request_id, recipient=shared.chat
        )
        send.options.reply_to.message_id = shared.id
        send.content.live_location.CopyFrom(request.location)
        send.content.live_location.duration.CopyFrom(shared.content.live_location.duration)
        response = pb.UpdateLiveLocationResponse()
        await self._sending.send(session, send, response.message, Method.UPDATE_LIVE_LOCATION)
        response.message.content.CopyFrom(send.content)
        return response

    async def _end_live_location(
        self, session: Session, request: pb.UpdateLiveLocationRequest, shared: pb.Message
    ) -> pb.UpdateLiveLocationResponse:
        async def act() -> tuple[pb.UpdateLiveLocationResponse, Sequence[Row]]:
            target, row = await self._sent(session, request.message)
            message = self._message(session, target, row)
            _check_shared(message)
            place = message.content.live_location
            if request.HasField("location"):
                place.CopyFrom(request.location)
            place.duration.FromSeconds(max(0, int(time.time()) - message.create_time.seconds))
            await self._say(session, Capability.END_LIVE_LOCATION, target, message.content)
            changed = _changed(session, "message.edited", message, row)
            return pb.UpdateLiveLocationResponse(message=message), changed

        turn = self._changes.turn(session.context, shared.network_message_id)
        answer = pb.UpdateLiveLocationResponse
        method = Method.UPDATE_LIVE_LOCATION
        return await self._calls.answered(session, method, request, answer, act, turn=turn)

    # ---

    async def _sent(self, session: Session, ref: MessageRef) -> tuple[Reference, Record | None]:
        """A message that the network has, and its row where it is stored; it still says something. Raises
        `FailedPrecondition` MESSAGE_STATE, and as `ReferenceLookup.find` does.
        """
        target, row = await self._references.find(session.context, ref, "message")
        if row is not None and row["direction"] == pb.DIRECTION_OUTBOUND and row["status"] in WAITING:
            raise FailedPrecondition("message: it has not been sent yet", "MESSAGE_STATE")
        if target.content is not None and target.content.HasField("revoked"):
            raise FailedPrecondition("message: it was taken back", "MESSAGE_STATE")
        return replace(target, content=None), row

    async def _say(
        self, session: Session, capability: Capability, target: Reference, content: content_pb2.Content
    ) -> None:
        """Have a message of the account say something else."""
        driver = session.context.driver
        said = pb.SendMessageRequest(recipient=target.chat, content=content)
        payload, _ = driver.encode(said, References(), None)
        network_id = driver.network_id(new_uuid())
        await self._calls.act(
            session,
            capability,
            lambda link: link.edit(network_id, target, payload),
            about=target.network_id,
        )

    def _message(self, session: Session, target: Reference, row: Record | None) -> pb.Message:
        """A message as it is stored, or what is known of one that is not, which the account wrote."""
        if row is not None:
            return message_of_row(session.id, session.context.people, row)
        return pb.Message(
            account_id=session.id,
            direction=pb.DIRECTION_OUTBOUND,
            origin=pb.MESSAGE_ORIGIN_OTHER_DEVICE,
            status=pb.MESSAGE_STATUS_SENT,
            chat=target.chat,
            network_message_id=target.network_id,
        )


def _check_edit(content: content_pb2.Content) -> None:
    """A content that a message can be edited to."""
    content.DiscardUnknownFields()
    kind = content.WhichOneof("kind")
    if kind is None:
        raise InvalidField("content", "is required")
    if kind not in _EDITABLE:
        raise InvalidField(f"content.{kind}", f"cannot be edited: only {', '.join(sorted(_EDITABLE))} can")
    if kind == "text":
        content.text.ClearField("style")
        check_text(content.text)
        if content.text.preview_mode == content_pb2.LINK_PREVIEW_MODE_AUTO:
            content.text.ClearField("preview_mode")  # nobody reads the page again
        return
    media = media_of(content)
    if media is not None and media.inline_data:
        raise InvalidField(f"content.{kind}.media.inline_data", "must not be there: the file stays")
    check_content(content)


def _edit(message: pb.Message, content: content_pb2.Content) -> None:
    """The message says this now: another text, or its file with another caption."""
    kind = content.WhichOneof("kind") or ""
    before = message.content.WhichOneof("kind")
    if before is not None and before != kind:
        raise InvalidField(f"content.{kind}", f"must be of the message's kind, {before}")
    if kind == "text" or before is None:
        message.content.CopyFrom(content)
        return
    file, given = media_of(message.content), media_of(content)
    if file is None or given is None or file.media_id != given.media_id:
        raise InvalidField(f"content.{kind}.media.media_id", "must be that of the message")
    getattr(message.content, kind).caption = getattr(content, kind).caption


def _changed(session: Session, type_: str, message: pb.Message, row: Record | None) -> list[Row]:
    """What is stored of a message whose content has changed now."""
    micros = time.time_ns() // 1000
    message.edit_time.FromMicroseconds(micros)
    event = session.context.events.changed(type_, message, micros)
    if row is None:
        return [event]
    return [ContentUpdate(row["id"], content_of_row(row, message), micros), event]


def _check_shared(message: pb.Message) -> None:
    """Raises where a message is no place that the account shares now."""
    place = message.content.live_location
    if not message.content.HasField("live_location") or message.direction != pb.DIRECTION_OUTBOUND:
        raise InvalidField("message", "is no live location that the account shares")
    if message.create_time.seconds + place.duration.seconds <= time.time():
        raise FailedPrecondition("message: its sharing has ended", "TOO_LATE")


_EDITABLE = frozenset({"text", "image", "video", "document"})
