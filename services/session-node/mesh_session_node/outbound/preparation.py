"""What some messages need before they can be sent: their file handed over, and the messages they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from mesh_core.database import UNAVAILABLE
from mesh_core.errors import MeshError, NotFound
from mesh_core.ids import Prefix, decode
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.content import MediaPart, References, address_of
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.store.media import MEDIA_KINDS, MediaClient, check_media, media_of
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import content_pb2, message_pb2

_WITH_REFERENCES = frozenset({*MEDIA_KINDS, "reaction"})


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


def has_references(request: message_pb2.SendMessageRequest) -> bool:
    """Whether the request refers to a file or to another message, which must be looked up."""
    if request.content.WhichOneof("kind") in _WITH_REFERENCES:
        return True
    return request.HasField("options") and bool(request.options.reply_to_message_id)


class Preparation:
    """Looks up and hands over; one for all accounts."""

    def __init__(self, messages: MessageStore, media: MediaClient) -> None:
        self._messages = messages
        self._media = media

    async def check(self, session: SessionContext, request: message_pb2.SendMessageRequest) -> None:
        """Before a message is accepted: what it refers to must exist, and be fit for it.

        Raises `NotFound`, `FailedPrecondition` MEDIA_NOT_READY, `InvalidField` for a file of the wrong type.
        """
        await self._check_media(session, request.content)
        await self._references(session, request)

    async def prepare(self, session: SessionContext, out: Outgoing) -> Prepared:
        """Before it is sent. Raises `CannotPrepare`."""
        try:
            references = await self._references(session, out.request)
            part = await self._hand_over(session, out.request.content)
        except NotFound as error:
            raise CannotPrepare(str(error)) from error
        except _RETRYABLE as error:
            raise CannotPrepare(str(error), final=False) from error
        payload, blobs = session.driver.encode(out.request, references, part)
        return Prepared(payload, blobs)

    async def _references(
        self, session: SessionContext, request: message_pb2.SendMessageRequest
    ) -> References:
        reply_to = target = sender = ""
        if request.options.reply_to_message_id:
            reply_to, sender = await self._network_id(
                session, request.options.reply_to_message_id, "options.reply_to_message_id"
            )
        if request.content.WhichOneof("kind") == "reaction":
            target, _ = await self._network_id(
                session, request.content.reaction.message_id, "content.reaction.message_id"
            )
        return References(reply_to, sender, target)

    async def _network_id(self, session: SessionContext, message_id: str, field: str) -> tuple[str, str]:
        """The network's id of one of the account's messages, and who wrote it."""
        row = await self._messages.message(session.ref.uuid, decode(Prefix.MESSAGE, message_id, field))
        if row is None:
            raise NotFound("message", message_id)
        if row["direction"] == message_pb2.DIRECTION_OUTBOUND:
            return row["network_id"], ""
        return row["network_id"], address_of(message_pb2.Message.FromString(row["content"]).sender.address)

    async def _check_media(self, session: SessionContext, content: content_pb2.Content) -> None:
        reference = media_of(content)
        if reference is None:
            return
        try:
            media = await self._media.get(session.ref.tenant, reference.media_id)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        check_media(content, media)

    async def _hand_over(self, session: SessionContext, content: content_pb2.Content) -> MediaPart | None:
        reference = media_of(content)
        if reference is None:
            return None
        if session.link is None:
            raise CannotPrepare("no connection", final=False)
        tenant = session.ref.tenant
        try:
            media = await self._media.get(tenant, reference.media_id)
            blob = await session.link.upload(self._media.download(tenant, reference.media_id))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        except BlobUnavailable as error:
            raise CannotPrepare(str(error), message_pb2.FAILURE_REASON_CONTENT_REFUSED) from error
        metrics.MEDIA.labels("outbound", "stored").inc()
        return MediaPart(
            blob, media.mime_type, media.file_name, media.width, media.height, media.duration_seconds
        )


_RETRYABLE: tuple[type[Exception], ...] = (MeshError, ConnectionEnded, *UNAVAILABLE)
