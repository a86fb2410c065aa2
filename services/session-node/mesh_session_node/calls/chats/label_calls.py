"""Calls about labels."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mesh_core import validation
from mesh_core.database.requests import Method
from mesh_core.errors import InvalidField, NotFound, ResourceExhausted
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context, in_time
from mesh_session_node.calls.chats.chat_calls import ChatCalls, chat_address
from mesh_session_node.context.message_rows import ref_of_row
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.chat_actions import LabelFacts
from mesh_session_node.inbound.labels import MAX_LABELS
from mesh_session_node.journal import Row
from mesh_session_node.outbound.references import check_ref
from sessionmesh.v1 import chat_pb2 as pb

MAX_LABEL_NAME = 100
MAX_LABEL_ID = 64
_MAX_COLOR = 1_000


class LabelCalls(ChatCalls):
    """Part of `ChatService`."""

    async def CreateLabel(self, request: pb.CreateLabelRequest, context: Context) -> pb.CreateLabelResponse:
        session = await self._calls.session(request.account_id, context)
        wanted = pb.Label(name=validation.required_text("name", request.name, MAX_LABEL_NAME))
        if request.HasField("color"):
            wanted.color = _color("color", request.color)

        async def act() -> tuple[pb.CreateLabelResponse, Sequence[Row]]:
            labels = await self._label_store.page(session.context.ref.uuid, "", MAX_LABELS)
            for label in labels:  # as on the network, where a name is one label's; also what was made before
                if label.name == wanted.name:
                    return pb.CreateLabelResponse(label=label), ()
            if len(labels) >= MAX_LABELS:
                raise ResourceExhausted(f"an account has at most {MAX_LABELS:,} labels", "QUOTA_EXCEEDED")
            wanted.id = str(1 + max((int(one.id) for one in labels if one.id.isdecimal()), default=0))
            await self._put(session, wanted)
            made, rows = await self._labels.put(session.context, wanted)
            return pb.CreateLabelResponse(label=made), rows

        turn = self._chats.turn(session.context)
        answer = pb.CreateLabelResponse
        return await self._calls.answered(session, Method.CREATE_LABEL, request, answer, act, turn=turn)

    async def ListLabels(self, request: pb.ListLabelsRequest, context: Context) -> pb.ListLabelsResponse:
        session = await self._calls.session(request.account_id, context)
        ref = session.context.ref
        page = self._pager.page(request, ref.tenant.bytes)
        after = "" if page.after is None else page.after.decode()
        labels = await self._label_store.page(ref.uuid, after, page.fetch)
        shown, token = page.cut(labels, lambda label: label, lambda label: label.id.encode())
        return pb.ListLabelsResponse(labels=shown, next_page_token=token)

    async def UpdateLabel(self, request: pb.UpdateLabelRequest, context: Context) -> pb.UpdateLabelResponse:
        session = await self._calls.session(request.account_id, context)
        label_id = _label_id("label.id", request.label.id)
        paths = validation.field_mask(request.update_mask, ("name", "color"))
        if "name" in paths:
            validation.required_text("label.name", request.label.name, MAX_LABEL_NAME)
        if "color" in paths and request.label.HasField("color"):
            _color("label.color", request.label.color)
        async with self._chats.turn(session.context):
            label = await self._label(session, label_id, request.label.etag)
            if "name" in paths:
                label.name = request.label.name
            if "color" in paths:
                label.ClearField("color")
                if request.label.HasField("color"):
                    label.color = request.label.color
            await self._put(session, label)
            label, rows = await self._labels.put(session.context, label)
            await self._store_rows(session, rows)
        return pb.UpdateLabelResponse(label=label)

    async def DeleteLabel(self, request: pb.DeleteLabelRequest, context: Context) -> pb.DeleteLabelResponse:
        session = await self._calls.session(request.account_id, context)
        label_id = _label_id("label_id", request.label_id)
        async with self._chats.turn(session.context):
            label = await self._label(session, label_id, request.etag)
            await self._calls.act(
                session, Capability.LABELS, lambda link: link.delete_label(_facts(label)), about=label_id
            )
            await self._store_rows(session, await self._labels.gone(session.context, label_id))
        return pb.DeleteLabelResponse()

    async def SetChatLabel(
        self, request: pb.SetChatLabelRequest, context: Context
    ) -> pb.SetChatLabelResponse:
        session = await self._calls.session(request.account_id, context)
        address = chat_address("chat", request.chat)
        label_id = _label_id("label_id", request.label_id)
        async with self._chats.turn(session.context):
            await self._label(session, label_id)
            row = await self._chats.row(session.context, address)
            chat = address if row is None else row["chat"]
            await self._calls.act(
                session,
                Capability.LABELS,
                lambda link: link.label_chat(label_id, chat, labelled=request.labelled),
                about=address,
            )
            shown, rows = await self._labels.on_chat(
                session.context, label_id, chat, labelled=request.labelled
            )
            await self._store_rows(session, rows)
        return pb.SetChatLabelResponse(chat=shown)

    async def SetMessageLabel(
        self, request: pb.SetMessageLabelRequest, context: Context
    ) -> pb.SetMessageLabelResponse:
        session = await self._calls.session(request.account_id, context)
        check_ref("message", request.message)
        label_id = _label_id("label_id", request.label_id)
        target, row = await self._references.find(session.context, request.message, "message")
        async with self._chats.turn(session.context):
            await self._label(session, label_id)
            await self._calls.act(
                session,
                Capability.LABELS,
                lambda link: link.label_message(label_id, target, labelled=request.labelled),
                about=target.network_id,
            )
            told = pb.LabelAssignmentEvent(label_id=label_id, labelled=request.labelled)
            told.message.CopyFrom(request.message if row is None else ref_of_row(row))
            event = session.context.events.of(
                "label.assignment_changed", time.time_ns() // 1000, label_assignment=told
            )
            await self._store_rows(session, [event])
        return pb.SetMessageLabelResponse()

    # ---

    async def _label(self, session: Session, label_id: str, etag: str = "") -> pb.Label:
        label = await self._label_store.label(session.context.ref.uuid, label_id)
        if label is None:
            raise NotFound("label", label_id)
        validation.check_etag(etag, label.etag)
        return label

    async def _put(self, session: Session, label: pb.Label) -> None:
        await self._calls.act(
            session, Capability.LABELS, lambda link: link.put_label(_facts(label)), about=label.id
        )

    async def _store_rows(self, session: Session, rows: Sequence[Row]) -> None:
        if rows:
            await in_time(self._calls.write(session, *rows))


def _facts(label: pb.Label) -> LabelFacts:
    return LabelFacts(label.id, label.name, label.color if label.HasField("color") else None)


def _label_id(field: str, text: str) -> str:
    return validation.required_text(field, text, MAX_LABEL_ID)


def _color(field: str, color: int) -> int:
    if not 0 <= color <= _MAX_COLOR:
        raise InvalidField(field, f"must be between 0 and {_MAX_COLOR:,}")
    return color
