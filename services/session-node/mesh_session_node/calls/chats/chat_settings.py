"""Calls that show and change chats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from asyncpg import Record

from mesh_core import validation
from mesh_core.database.requests import Method
from mesh_core.errors import InvalidField
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context, in_time
from mesh_session_node.calls.chats.chat_calls import ChatCalls, chat_address
from mesh_session_node.context.chat_rows import SETTABLE
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.chat_actions import FOR_EVER
from mesh_session_node.drivers.interface.content import Reference, is_person
from mesh_session_node.journal import Row
from mesh_session_node.store.chats import ChatFilter
from sessionmesh.v1 import chat_pb2 as pb

MAX_TIMER = timedelta(days=90)


class ChatSettings(ChatCalls):
    """Part of `ChatService`."""

    async def GetChat(self, request: pb.GetChatRequest, context: Context) -> pb.GetChatResponse:
        session = await self._calls.session(request.account_id, context)
        row = await self._found(session, chat_address("address", request.address))
        return pb.GetChatResponse(chat=await self._shown(session, row))

    async def ListChats(self, request: pb.ListChatsRequest, context: Context) -> pb.ListChatsResponse:
        session = await self._calls.session(request.account_id, context)
        ref = session.context.ref
        label_id = validation.text("label_id", request.label_id)
        page = self._pager.page(request, ref.tenant.bytes)
        after = None if page.after is None else _read_position(page.after)
        wanted = ChatFilter(request.unread_only, label_id, request.show_archived, after)
        await self._store.fold(ref.uuid)
        async with self._pager.working(ref.tenant) as slices:
            rows = await self._store.page(ref.uuid, wanted, page.fetch)
            show = await self._chats.showing(session.context, rows)
            chats, token = await page.cut_in(slices, ref.tenant, rows, show, _position)
        return pb.ListChatsResponse(chats=chats, next_page_token=token)

    async def UpdateChat(self, request: pb.UpdateChatRequest, context: Context) -> pb.UpdateChatResponse:
        session = await self._calls.session(request.account_id, context)
        address = chat_address("chat.address", request.chat.address)
        paths = validation.field_mask(request.update_mask, SETTABLE)
        _check(request.chat, address, paths)
        async with self._chats.turn(session.context):
            row = await self._chats.row(session.context, address)
            await self._check_etag(session, request.chat.etag, row)
            address = address if row is None else row["chat"]
            last = await self._chats.last(session.context, row)
            done = set[str]()
            try:
                for path in sorted(paths):
                    await self._set(session, address, last, path, request.chat)
                    done.add(path)
            finally:  # what was set before something was refused is so
                chat, rows = await self._chats.changed(
                    session.context, row, address, lambda chat: _set_fields(chat, request.chat, done)
                )
                if done and rows:
                    await in_time(self._calls.write(session, *rows))
        return pb.UpdateChatResponse(chat=chat)

    async def ClearChat(self, request: pb.ClearChatRequest, context: Context) -> pb.ClearChatResponse:
        session = await self._calls.session(request.account_id, context)
        address = chat_address("address", request.address)

        async def act() -> tuple[pb.ClearChatResponse, Sequence[Row]]:
            row = await self._found(session, address)
            last = await self._chats.last(session.context, row)
            await self._calls.act(
                session, Capability.CLEAR_CHAT, lambda link: link.clear_chat(row["chat"], last), about=address
            )
            return pb.ClearChatResponse(), await self._chats.emptied(session.context, row, deleted=False)

        turn = self._chats.turn(session.context)
        return await self._calls.answered(
            session, Method.CLEAR_CHAT, request, pb.ClearChatResponse, act, turn=turn
        )

    async def DeleteChat(self, request: pb.DeleteChatRequest, context: Context) -> pb.DeleteChatResponse:
        session = await self._calls.session(request.account_id, context)
        address = chat_address("address", request.address)

        async def act() -> tuple[pb.DeleteChatResponse, Sequence[Row]]:
            row = await self._found(session, address)
            await self._check_etag(session, request.etag, row)
            last = await self._chats.last(session.context, row)
            await self._calls.act(
                session,
                Capability.CLEAR_CHAT,
                lambda link: link.delete_chat(row["chat"], last),
                about=address,
            )
            return pb.DeleteChatResponse(), await self._chats.emptied(session.context, row, deleted=True)

        turn = self._chats.turn(session.context)
        return await self._calls.answered(
            session, Method.DELETE_CHAT, request, pb.DeleteChatResponse, act, turn=turn
        )

    async def _check_etag(self, session: Session, given: str, row: Record | None) -> None:
        if given:
            validation.check_etag(given, None if row is None else (await self._shown(session, row)).etag)

    async def _set(
        self, session: Session, chat: str, last: Reference | None, path: str, wanted: pb.Chat
    ) -> None:
        capability = _CAPABILITIES[path]
        if path == "archived":
            await self._calls.act(
                session,
                capability,
                lambda link: link.archive_chat(chat, last, archived=wanted.archived),
                about=chat,
            )
        elif path == "mute_until":
            until = wanted.mute_until.ToMicroseconds()
            await self._calls.act(session, capability, lambda link: link.mute_chat(chat, until), about=chat)
        elif path == "pinned":
            await self._calls.act(
                session, capability, lambda link: link.pin_chat(chat, pinned=wanted.pinned), about=chat
            )
        elif path == "marked_unread":
            await self._calls.act(
                session,
                capability,
                lambda link: link.mark_chat(chat, last, unread=wanted.marked_unread),
                about=chat,
            )
        else:
            seconds = wanted.disappear_after.seconds
            await self._calls.act(
                session, capability, lambda link: link.set_disappearing(chat, seconds), about=chat
            )


def _check(chat: pb.Chat, address: str, paths: frozenset[str]) -> None:
    if "mute_until" in paths and chat.HasField("mute_until"):
        validation.timestamp("chat.mute_until", chat.mute_until)
        if chat.mute_until.ToMicroseconds() > FOR_EVER:
            chat.mute_until.FromMicroseconds(FOR_EVER)
    if "disappear_after" not in paths:
        return
    if not is_person(address):
        raise InvalidField(
            "chat.disappear_after", "can be set of a chat with one person; UpdateGroup sets a group's"
        )
    if chat.HasField("disappear_after"):
        validation.duration("chat.disappear_after", chat.disappear_after, least=timedelta(), most=MAX_TIMER)
        if chat.disappear_after.nanos:
            raise InvalidField("chat.disappear_after", "must be whole seconds")


def _set_fields(chat: pb.Chat, wanted: pb.Chat, paths: Collection[str]) -> None:
    for path in paths:
        chat.ClearField(path)  # type: ignore[arg-type]  # one of SETTABLE
        if path in ("archived", "pinned", "marked_unread"):
            setattr(chat, path, getattr(wanted, path))
        elif wanted.HasField(path):  # type: ignore[arg-type]  # as above
            getattr(chat, path).CopyFrom(getattr(wanted, path))
    if "archived" in paths and chat.archived:
        chat.pinned = False


def _position(row: Record) -> bytes:
    return f"{row['micros']} {row['chat']}".encode()


def _read_position(position: bytes) -> tuple[int, str]:
    micros, _, chat = position.decode().partition(" ")
    return int(micros), chat


_CAPABILITIES = {
    "archived": Capability.ARCHIVE_CHAT,
    "mute_until": Capability.MUTE_CHAT,
    "pinned": Capability.PIN_CHAT,
    "marked_unread": Capability.MARK_CHAT,
    "disappear_after": Capability.DISAPPEARING,
}
