"""The part of SimulatorService in which somebody holds an account's phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh_core.errors import InvalidField
from mesh_core.validation import required_text, text
from mesh_simulator.resolving import Resolving
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[object, object]

MAX_PAST = 1_000_000
"""Messages of a chat's past."""


class PhoneService(Resolving):
    """Acts of people on their own phones."""

    async def ActOnPhone(self, request: api.ActOnPhoneRequest, context: Context) -> api.ActOnPhoneResponse:
        account = self._account(request.phone)
        act = request.WhichOneof("act")
        if act is None:
            raise InvalidField("act", "is required")
        chat = "" if act == "label" else self._chat("chat", request.chat, account)
        if act == "read":
            message_id = text("read", request.read)
            read = wire.ChatRead(chat=chat, message_id=message_id, until_us=request.until_us)
            told = wire.Notice(chat_read=read)
            self._network.notices.offer(account, told)
        elif act == "disappear_after_seconds":
            timer = wire.DisappearingSet(chat=chat, seconds=request.disappear_after_seconds)
            self._network.notices.offer(account, wire.Notice(disappearing_set=timer))
        else:
            self._network.app_states.on_phone(account, *_entry(request, act, chat))
        self._network.flush()
        return api.ActOnPhoneResponse()

    async def GivePhoneHistory(
        self, request: api.GivePhoneHistoryRequest, context: Context
    ) -> api.GivePhoneHistoryResponse:
        account = self._account(request.phone)
        chat = self._chat("chat", request.chat, account)
        if not 0 <= request.messages <= MAX_PAST:
            raise InvalidField("messages", f"must be between 0 and {MAX_PAST:,}")
        past = account.past or {}
        past.pop(chat, None)
        if request.messages:
            past[chat] = request.messages
        account.past = past or None
        return api.GivePhoneHistoryResponse()


def _entry(request: api.ActOnPhoneRequest, act: str, chat: str) -> tuple[str, bytes]:
    """The name and the value of what changes."""
    if act == "label":
        label = request.label
        name = f"label/{required_text('label.id', label.id, _MAX_ID)}"
        value = wire.Label(name=text("label.name", label.name), color=label.color).SerializeToString()
        return name, b"" if label.deleted else value
    if act == "labelling":
        done = request.labelling
        label_id = required_text("labelling.label_id", done.label_id, _MAX_ID)
        message = text("labelling.network_message_id", done.network_message_id, _MAX_ID)
        value = b"1" if done.labelled else b""
        if message:
            return f"label-message/{label_id}/{chat}/{message}", value
        return f"label-chat/{label_id}/{chat}", value
    if act == "mute_until_us":
        return f"mute/{chat}", str(request.mute_until_us).encode() if request.mute_until_us else b""
    if act in ("clear", "delete") and request.until_us:
        return f"{act}/{chat}", str(request.until_us).encode() if getattr(request, act) else b""
    name = {
        "archive": "archive",
        "pin": "pin",
        "mark_unread": "unread",
        "clear": "clear",
        "delete": "delete",
    }[act]
    return f"{name}/{chat}", b"1" if getattr(request, act) else b""


_MAX_ID = 64
