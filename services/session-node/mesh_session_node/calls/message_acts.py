"""The calls of MessageService that act on messages which are there already."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b

from asyncpg import Record
from google.protobuf.duration_pb2 import Duration

from mesh_core import addresses, validation
from mesh_core.database.requests import Method
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_core.ids import new_uuid
from mesh_core.message_status import WAITING
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.calls.content_validation import (
    check_content,
    check_emoji,
    check_live_location,
    check_text,
)
from mesh_session_node.calls.send_validation import MAX_FORWARD_SCORE
from mesh_session_node.calls.sending import Accepted, Sending
from mesh_session_node.context.media_uses import revoked_media_use
from mesh_session_node.context.message_rows import content_of_row, message_of_row
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import Reference, References, is_person
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.inbound.votes import own_person
from mesh_session_node.journal import ContentUpdate, Row
from mesh_session_node.outbound.references import ReferenceLookup, check_ref
from mesh_session_node.store.media import media_of
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef

MAX_MARKED = 100
"""Messages of one MarkRead or MarkPlayed."""
MAX_RECIPIENTS = 5
"""Of one ForwardMessage."""


class MessageActs:
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
        if found.sender:
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
            raise InvalidField("message", "of somebody else can be taken back in groups only")

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

    async def ReactToMessage(
        self, request: pb.ReactToMessageRequest, context: Context
    ) -> pb.ReactToMessageResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        check_emoji("emoji", request.emoji)
        target = await self._references.resolve(session.context, request.message, "message")
        send = pb.SendMessageRequest(
            account_id=request.account_id, request_id=request.request_id, recipient=target.chat
        )
        reaction = send.content.reaction
        reaction.message.CopyFrom(request.message)
        reaction.emoji = request.emoji
        response = pb.ReactToMessageResponse()
        await self._sending.send(session, send, response.message, Method.REACT_TO_MESSAGE)
        response.message.content.reaction.CopyFrom(reaction)
        return response

    async def ForwardMessage(
        self, request: pb.ForwardMessageRequest, context: Context
    ) -> pb.ForwardMessageResponse:
        session = await self._calls.session(request.account_id, context)
        validation.request_id(request.request_id)
        check_ref("message", request.message)
        recipients = _recipients(request.recipients)
        row = await self._references.stored(session.context, request.message, "message")
        message = message_of_row(session.id, session.context.people, row)
        one_of = blake2b(request.request_id.encode(), digest_size=16).hexdigest()
        accepted: list[Accepted | pb.Message] = []
        for at, recipient in enumerate(recipients):
            send = _forwarded(message)
            send.account_id, send.recipient = request.account_id, recipient
            send.request_id = f"{one_of}/{at}"
            try:
                accepted.append(await self._sending.accept(session, send, Method.FORWARD_MESSAGE))
            except InvalidField as error:
                if not error.field.startswith("content"):
                    raise
                raise FailedPrecondition(f"message: cannot be sent on: {error}", "MESSAGE_STATE") from None
        response = pb.ForwardMessageResponse()
        for one in accepted:
            shown = response.messages.add()
            if isinstance(one, pb.Message):
                shown.CopyFrom(one)
            else:
                self._sending.show(one, await in_time(one.done), shown)
        return response

    async def MarkRead(self, request: pb.MarkReadRequest, context: Context) -> pb.MarkReadResponse:
        session = await self._calls.session(request.account_id, context)
        await self._mark(session, request.messages, played=False)
        return pb.MarkReadResponse()

    async def MarkPlayed(self, request: pb.MarkPlayedRequest, context: Context) -> pb.MarkPlayedResponse:
        session = await self._calls.session(request.account_id, context)
        await self._mark(session, request.messages, played=True)
        return pb.MarkPlayedResponse()

    async def SetMessageStarred(
        self, request: pb.SetMessageStarredRequest, context: Context
    ) -> pb.SetMessageStarredResponse:
        session = await self._calls.session(request.account_id, context)
        target = await self._target(session, request.message)
        await self._calls.act(
            session,
            Capability.STAR,
            lambda link: link.star(target, starred=request.starred),
            about=target.network_id,
        )
        return pb.SetMessageStarredResponse()

    async def SetMessagePinned(
        self, request: pb.SetMessagePinnedRequest, context: Context
    ) -> pb.SetMessagePinnedResponse:
        session = await self._calls.session(request.account_id, context)
        seconds = _pin_seconds(request)
        target = await self._target(session, request.message)
        network_id = session.context.driver.network_id(new_uuid())
        await self._calls.act(
            session,
            Capability.PIN,
            lambda link: link.pin(network_id, target, seconds),
            about=target.network_id,
        )
        return pb.SetMessagePinnedResponse()

    async def DeleteMessageForMe(
        self, request: pb.DeleteMessageForMeRequest, context: Context
    ) -> pb.DeleteMessageForMeResponse:
        session = await self._calls.session(request.account_id, context)
        target = await self._target(session, request.message)
        await self._calls.act(
            session,
            Capability.DELETE_FOR_ME,
            lambda link: link.delete_for_me(target, with_media=request.delete_media),
            about=target.network_id,
        )
        return pb.DeleteMessageForMeResponse()

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

    async def SetTyping(self, request: pb.SetTypingRequest, context: Context) -> pb.SetTypingResponse:
        session = await self._calls.session(request.account_id, context)
        chat = addresses.chat("chat", request.chat)
        if not is_person(chat) and addresses.kind_of(chat) != "group":
            raise InvalidField("chat", "must be a person or a group")
        await self._calls.act(
            session, Capability.TYPING, lambda link: link.show_typing(chat, request.state), about=chat
        )
        return pb.SetTypingResponse()

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

    async def _target(self, session: Session, ref: MessageRef) -> Reference:
        check_ref("message", ref)
        target, _ = await self._sent(session, ref)
        return target

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

    async def _mark(self, session: Session, refs: Sequence[MessageRef], *, played: bool) -> None:
        if not 1 <= len(refs) <= MAX_MARKED:
            raise InvalidField("messages", f"must have 1 to {MAX_MARKED} entries")
        marked: dict[tuple[str, str], list[str]] = {}
        for at, ref in enumerate(refs):
            field = f"messages[{at}]"
            check_ref(field, ref)
            target = await self._references.resolve(session.context, ref, field)
            if not target.sender:
                raise InvalidField(field, "was written by the account itself")
            if played and target.content is not None and not _is_played(target.content):
                raise InvalidField(field, "is neither a voice note nor a video note")
            marked.setdefault((target.chat, target.sender), []).append(target.network_id)
        for (chat, sender), network_ids in marked.items():
            await self._tell_marked(session, chat, sender, network_ids, played=played)

    async def _tell_marked(
        self, session: Session, chat: str, sender: str, network_ids: Sequence[str], *, played: bool
    ) -> None:
        await self._calls.act(
            session,
            Capability.MARK_READ,
            lambda link: link.mark_read(chat, sender, network_ids, played=played),
            about=chat,
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


def _recipients(given: Iterable[str]) -> list[str]:
    recipients = [addresses.chat(f"recipients[{at}]", address) for at, address in enumerate(given)]
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise InvalidField("recipients", f"must have 1 to {MAX_RECIPIENTS} entries")
    if len(set(recipients)) != len(recipients):
        raise InvalidField("recipients", "must not have the same entry twice")
    return recipients


def _forwarded(message: pb.Message) -> pb.SendMessageRequest:
    """A message as it is sent on. Raises `FailedPrecondition` MESSAGE_STATE for what cannot be."""
    kind = message.content.WhichOneof("kind") or "nothing"
    shown = getattr(message.content, kind, None)
    if kind not in _FORWARDABLE or getattr(shown, "view_once", False):
        raise FailedPrecondition(f"message: {kind} cannot be forwarded", "MESSAGE_STATE")
    send = pb.SendMessageRequest(content=message.content)
    send.options.forward_score = min(message.options.forward_score + 1, MAX_FORWARD_SCORE)
    text = send.content.text
    if text.preview.url and text.preview.url in text.body:
        text.preview_mode = content_pb2.LINK_PREVIEW_MODE_CUSTOM
    elif kind == "text":
        text.ClearField("preview")
    return send


def _pin_seconds(request: pb.SetMessagePinnedRequest) -> int:
    if not request.pinned:
        return 0
    if not request.HasField("duration"):
        return 7 * _DAY
    if request.duration not in _PINNED_FOR:
        raise InvalidField("duration", "must be 1, 7 or 30 days")
    return int(request.duration.seconds)


def _is_played(content: content_pb2.Content) -> bool:
    return content.HasField("voice_note") or content.video.video_note


_EDITABLE = frozenset({"text", "image", "video", "document"})
_FORWARDABLE = frozenset(
    {
        "text",
        "image",
        "video",
        "audio",
        "voice_note",
        "document",
        "sticker",
        "location",
        "contact_cards",
        "poll",
        "group_invite",
        "appointment",
        "product",
    }
)
_DAY = int(timedelta(days=1).total_seconds())
_PINNED_FOR = [Duration(seconds=days * _DAY) for days in (1, 7, 30)]
