"""What some messages need before they can be sent: their file handed over, their link read, and the messages
they refer to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from mesh_core import addresses
from mesh_core.database import UNAVAILABLE
from mesh_core.errors import FailedPrecondition, InvalidArgument, InvalidField, MeshError, NotFound
from mesh_core.rpc.auth import current_identity
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import request_of_row
from mesh_session_node.drivers.interface.content import (
    SENT_BEFORE,
    MediaPart,
    OutgoingMessage,
    Reference,
    References,
    audience_of,
    is_channel,
    is_person,
)
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded
from mesh_session_node.drivers.interface.state import StateUnavailable
from mesh_session_node.outbound.answers import ABOUT, check_answer
from mesh_session_node.outbound.inline_files import store_inline_file
from mesh_session_node.outbound.link_previews import LinkPreviews, first_link
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.references import NEVER_SENT, ReferenceLookup
from mesh_session_node.store.media import MediaClient, check_media, media_of
from sessionmesh.v1 import content_pb2, message_pb2
from sessionmesh.v1.common_pb2 import MessageRef


class CannotPrepare(Exception):
    """What a message needs is not available; `final`: trying again does not help."""

    def __init__(
        self,
        detail: str,
        reason: message_pb2.FailureReason.ValueType = message_pb2.FAILURE_REASON_MEDIA_UNAVAILABLE,
        *,
        final: bool = True,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.final = final


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message in the driver's form."""

    payload: bytes
    blobs: Sequence[str]
    poll: str | None = None
    """Of a vote: the network's id of the poll."""


def needs_preparation(driver: Driver, request: message_pb2.SendMessageRequest) -> bool:
    """Whether the request does not yet say all that the driver needs."""
    asks_preview = request.content.text.preview_mode == content_pb2.LINK_PREVIEW_MODE_AUTO
    return asks_preview or driver.prepares(request)


class Preparation:
    """Looks up and hands over; one for all accounts."""

    def __init__(self, references: ReferenceLookup, media: MediaClient, previews: LinkPreviews) -> None:
        self._lookup = references
        self._media = media
        self._previews = previews

    async def store_inline(
        self, session: SessionContext, request: message_pb2.SendMessageRequest, request_id: str
    ) -> None:
        """Before a message with its file's bytes in it is checked: see `store_inline_file`."""
        await store_inline_file(self._media, session, request, request_id)

    async def check(self, session: SessionContext, request: message_pb2.SendMessageRequest) -> None:
        """Before a message is accepted: what it refers to must exist, and be fit for it.

        Raises `NotFound`, `FailedPrecondition` MEDIA_NOT_READY or MESSAGE_STATE, `InvalidField` for a file of
        the wrong type and for a reference that does not say what is stored.
        """
        await self._check_media(session, request.content)
        await self._references(session, request)

    async def prepare(self, session: SessionContext, out: Outgoing) -> Prepared:
        """Before it is sent. Raises `CannotPrepare`."""
        try:
            try:
                references = await self._references(session, out.request)
            except (NotFound, InvalidArgument, FailedPrecondition) as error:
                raise CannotPrepare(str(error), message_pb2.FAILURE_REASON_REFUSED) from error
            part = await self._hand_over(
                session, out.request.content, public=is_channel(out.request.recipient)
            )
        except (NotFound, InvalidArgument) as error:
            raise CannotPrepare(str(error)) from error
        except _RETRYABLE as error:
            raise CannotPrepare(str(error), final=False) from error
        payload, blobs = session.driver.encode(
            await self._with_preview(session, out.request), references, part
        )
        voted_in = references.target if out.request.content.HasField("poll_vote") else None
        return Prepared(payload, blobs, None if voted_in is None else voted_in.network_id)

    async def sent(self, session: SessionContext, network_id: str) -> OutgoingMessage | None:
        """A message that the account has sent, as it is stored: for a recipient that could not decrypt it.
        None for another one, and where it cannot be said again: what it says is gone, or its file. Raises
        `StateUnavailable`.
        """
        try:
            row = await self._lookup.sent_here(session, network_id)
            if row is None or row["status"] in NEVER_SENT:
                return None
            request = request_of_row(row)
            references = await self._references(session, request)
            part = await self._sent_before(session, request.content)
        except (NotFound, InvalidArgument, FailedPrecondition):
            return None
        except _RETRYABLE as error:
            raise StateUnavailable(f"the message cannot be read: {error}") from error
        try:
            payload, blobs = session.driver.encode(request, references, part)
        except FailedPrecondition:  # it was revoked since
            return None
        return OutgoingMessage(network_id, row["chat"], payload, blobs, audience=audience_of(request))

    async def _with_preview(
        self, session: SessionContext, request: message_pb2.SendMessageRequest
    ) -> message_pb2.SendMessageRequest:
        """The request with what is shown of its link, where it asks for that and the page says it."""
        text = request.content.text
        if text.preview_mode != content_pb2.LINK_PREVIEW_MODE_AUTO or not (link := first_link(text.body)):
            return request
        preview = await self._previews.read(link, session.ref)
        if preview is None:
            return request
        shown = message_pb2.SendMessageRequest()
        shown.CopyFrom(request)
        shown.content.text.preview.CopyFrom(preview)
        return shown

    async def _references(
        self, session: SessionContext, request: message_pb2.SendMessageRequest
    ) -> References:
        reply_to = target = None
        if request.options.HasField("reply_to"):
            reply_to = await self._lookup.resolve(session, request.options.reply_to, "options.reply_to")
        kind = request.content.WhichOneof("kind") or ""
        if kind in ABOUT:
            field = f"content.{kind}.{ABOUT[kind]}"
            about: MessageRef = getattr(getattr(request.content, kind), ABOUT[kind])
            target = await self._lookup.resolve(session, about, field)
            if _elsewhere(target.chat, request.recipient):
                raise InvalidField(field, "is of another chat than the recipient's")
            if target.content is not None:
                check_answer(request.content, target.content)
        album = None
        if request.HasField("album"):
            album = Reference(request.album.network_message_id, request.album.chat)
        return References(reply_to, target, album)

    async def _check_media(self, session: SessionContext, content: content_pb2.Content) -> None:
        reference = media_of(content)
        if reference is None:
            return
        try:
            media = await self._media.get(session.ref.tenant, reference.media_id)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        if not current_identity().sees_account(media.account_id):
            raise NotFound("media", reference.media_id)
        check_media(content, media)
        session.driver.media_limits.check(content.WhichOneof("kind") or "", media)

    async def _sent_before(self, session: SessionContext, content: content_pb2.Content) -> MediaPart | None:
        reference = media_of(content)
        if reference is None:
            return None
        try:
            media = await self._media.get(session.ref.tenant, reference.media_id)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return MediaPart(SENT_BEFORE, media)

    async def _hand_over(
        self, session: SessionContext, content: content_pb2.Content, *, public: bool
    ) -> MediaPart | None:
        reference = media_of(content)
        if reference is None:
            return None
        if session.link is None:
            raise CannotPrepare("no connection", final=False)
        tenant = session.ref.tenant
        try:
            media = await self._media.get(tenant, reference.media_id)
            blob = await session.link.upload(
                content.WhichOneof("kind") or "",
                self._media.download(tenant, reference.media_id),
                public=public,
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        except BlobUnavailable as error:
            raise CannotPrepare(str(error), message_pb2.FAILURE_REASON_CONTENT_REFUSED) from error
        metrics.MEDIA.labels("outbound", "stored").inc()
        return MediaPart(blob, media)


def _elsewhere(chat: str, recipient: str) -> bool:
    """Whether two addresses are surely not of one chat: a person may have one of each kind."""
    if is_person(chat) and is_person(recipient):
        return chat != recipient and addresses.kind_of(chat) == addresses.kind_of(recipient)
    return chat != recipient


_RETRYABLE: tuple[type[Exception], ...] = (MeshError, ConnectionEnded, *UNAVAILABLE)
