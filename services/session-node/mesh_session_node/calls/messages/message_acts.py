"""The calls of MessageService that act on messages without changing what they say."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import blake2b

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.duration_pb2 import Duration

from mesh_core import addresses, validation
from mesh_core.database.requests import Method
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_core.ids import new_uuid
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context, in_time
from mesh_session_node.calls.messages.content_validation import (
    check_emoji,
)
from mesh_session_node.calls.messages.message_changes import MessageChanges
from mesh_session_node.calls.messages.send_validation import MAX_FORWARD_SCORE
from mesh_session_node.calls.messages.sending import Accepted
from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import Reference, is_channel, is_person
from mesh_session_node.journal import ChatChange
from mesh_session_node.outbound.references import check_ref
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef

MAX_MARKED = 100
"""Messages of one MarkRead or MarkPlayed."""
MAX_RECIPIENTS = 5
"""Of one ForwardMessage."""


class MessageActs(MessageChanges):
    """Part of `MessageService`."""

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
        if is_channel(target.chat):
            raise InvalidField("message", "is a post in a channel, where nothing is pinned")
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

    async def _target(self, session: Session, ref: MessageRef) -> Reference:
        check_ref("message", ref)
        target, _ = await self._sent(session, ref)
        return target

    async def _mark(self, session: Session, refs: Sequence[MessageRef], *, played: bool) -> None:
        if not 1 <= len(refs) <= MAX_MARKED:
            raise InvalidField("messages", f"must have 1 to {MAX_MARKED} entries")
        marked: dict[tuple[str, str], list[str]] = {}
        read: dict[str, UUID] = {}
        for at, ref in enumerate(refs):
            field = f"messages[{at}]"
            check_ref(field, ref)
            target, row = await self._references.find(session.context, ref, field)
            if not target.sender:
                raise InvalidField(field, "was written by the account itself")
            if played and target.content is not None and not _is_played(target.content):
                raise InvalidField(field, "is neither a voice note nor a video note")
            marked.setdefault((target.chat, target.sender), []).append(target.network_id)
            if row is not None:
                read[row["chat"]] = max(row["id"], read.get(row["chat"], row["id"]))
        for (chat, sender), network_ids in marked.items():
            await self._tell_marked(session, chat, sender, network_ids, played=played)
        if read:  # what was written before in the chat is read as well
            micros = time.time_ns() // 1000
            rows = [ChatChange(chat=chat, time=micros, read_until=until) for chat, until in read.items()]
            await in_time(self._calls.write(session, *rows))

    async def _tell_marked(
        self, session: Session, chat: str, sender: str, network_ids: Sequence[str], *, played: bool
    ) -> None:
        await self._calls.act(
            session,
            Capability.MARK_READ,
            lambda link: link.mark_read(chat, sender, network_ids, played=played),
            about=chat,
        )


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
