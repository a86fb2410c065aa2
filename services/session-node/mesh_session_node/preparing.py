"""What a message needs before it can be sent, or stored: its file handed over, and the messages that it
refers to.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import MeshError, NotFound
from mesh_core.ids import Prefix, decode
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node import metrics, validation
from mesh_session_node.drivers.interface.content import Context, Incoming, MediaPart, address_of
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded
from mesh_session_node.journal import ContentUpdate
from mesh_session_node.media_client import MediaClient
from mesh_session_node.queries import UNAVAILABLE, Queries
from mesh_session_node.session import receiver
from mesh_session_node.session.outgoing import message_of
from mesh_session_node.session.sender import CannotPrepare
from sessionmesh.v1 import content_pb2, message_pb2

if TYPE_CHECKING:
    from mesh_session_node.session.outgoing import Outgoing
    from mesh_session_node.session.session import Session


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message in the driver's form."""

    payload: bytes
    blobs: Sequence[str]


class Preparing:
    """Looks up and hands over."""

    def __init__(self, queries: Queries, media: MediaClient) -> None:
        self._queries = queries
        self._media = media

    async def check(self, session: Session, request: message_pb2.SendMessageRequest) -> None:
        """Before a message is accepted: what it refers to must exist, and be fit for it.

        Raises `NotFound`, `FailedPrecondition` MEDIA_NOT_READY, `InvalidField` for a file of the wrong type.
        """
        await self._check_media(session, request.content)
        await self._context(session, request)

    async def prepare(self, session: Session, out: Outgoing) -> Prepared:
        """Before it is sent. Raises `CannotPrepare`."""
        try:
            context = await self._context(session, out.request)
            part = await self._hand_over(session, out.request.content)
        except NotFound as error:
            raise CannotPrepare(str(error)) from error
        except _RETRYABLE as error:
            raise CannotPrepare(str(error), final=False) from error
        payload, blobs = session.driver.encode(out.request, context, part)
        return Prepared(payload, blobs)

    async def receive(self, session: Session, came: Incoming) -> None:
        """Store a message that refers to an earlier one."""
        target = came.target or came.reply_to
        found = message_of(target)
        row = None
        if found is None:
            found = await self._queries.by_network_id(session.ref.uuid, target)
        if found is not None:
            row = await self._queries.message(session.ref.uuid, found)
        kind = came.content.WhichOneof("kind")
        if row is not None and found is not None and (came.edited is not None or kind == "revoked"):
            await self._change(session, came, found, row["content"], row["direction"])
        else:
            receiver.store(session, came, found if row is not None else None)

    async def _change(
        self, session: Session, came: Incoming, target: UUID, content: bytes, direction: int
    ) -> None:
        """An earlier message was edited or taken back; only its own writer can do that, so it is inbound."""
        link = session.link
        if direction == message_pb2.DIRECTION_INBOUND and not session.closed:
            message = message_pb2.Message.FromString(content)
            message.content.CopyFrom(came.edited if came.edited is not None else came.content)
            type_ = "message.edited" if came.edited is not None else "message.revoked"
            event = session.events.changed(type_, message, came.time or time.time_ns() // 1000)
            await session.host.journal.write(
                session.ref, ContentUpdate(target, message.SerializeToString()), event
            )
        receiver.acknowledge(session, link, came.network_id)

    async def _context(self, session: Session, request: message_pb2.SendMessageRequest) -> Context:
        reply_to = target = sender = ""
        if request.options.reply_to_message_id:
            reply_to, sender = await self._network_id(
                session, request.options.reply_to_message_id, "options.reply_to_message_id"
            )
        if request.content.WhichOneof("kind") == "reaction":
            target, _ = await self._network_id(
                session, request.content.reaction.message_id, "content.reaction.message_id"
            )
        return Context(reply_to, sender, target)

    async def _network_id(self, session: Session, message_id: str, field: str) -> tuple[str, str]:
        """The network's id of one of the account's messages, and who wrote it."""
        row = await self._queries.message(session.ref.uuid, decode(Prefix.MESSAGE, message_id, field))
        if row is None:
            raise NotFound("message", message_id)
        if row["direction"] == message_pb2.DIRECTION_OUTBOUND:
            return row["network_id"], ""
        return row["network_id"], address_of(message_pb2.Message.FromString(row["content"]).sender.address)

    async def _check_media(self, session: Session, content: content_pb2.Content) -> None:
        reference = validation.media_of(content)
        if reference is None:
            return
        try:
            media = await self._media.get(session.ref.tenant, reference.media_id)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        validation.check_media(content, media)

    async def _hand_over(self, session: Session, content: content_pb2.Content) -> MediaPart | None:
        reference = validation.media_of(content)
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
