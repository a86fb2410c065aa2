"""Media that came with messages: fetched from the network and stored with the media service, until it is
done.

The mark to fetch is a row that was stored with the message, so it survives whatever happens to this process.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import timeout
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.errors import InvalidField, MeshError
from mesh_core.rpc.server.status import from_rpc_error
from mesh_core.telemetry import tracing
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.media_uses import fetched_media_use
from mesh_session_node.context.message_rows import content_of_row, message_of_row
from mesh_session_node.context.places import Places
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.journal import ContentUpdate, FetchDone, FetchRetry, Row
from mesh_session_node.store.media import MediaClient, media_of
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2

logger = structlog.get_logger(__name__)

START_SECONDS = 30.0
LEAST_RATE = 64 * 1024
MOST_DOUBLINGS = 3
"""A fetch has `START_SECONDS`, and one more for each `LEAST_RATE` bytes that the message says it has, or that
came where these are more; each of the first attempts after it has twice the time.
"""


@dataclass(frozen=True, slots=True)
class Fetch:
    """One message's media to fetch."""

    session: SessionContext
    message: UUID
    blob: bytes
    attempts: int


class MediaFetcher:
    """Fetches at most `parallel` files at a time, none above `max_bytes`, or what the account's settings
    say; one for all accounts, which get their turns as `Places` says. A file that takes too long for its size
    makes room, and is tried again.
    """

    def __init__(
        self,
        client: MediaClient,
        messages: MessageStore,
        changes: ContentChanges,
        parallel: int,
        max_bytes: int,
    ) -> None:
        self._client = client
        self._messages = messages
        self._changes = changes
        self._places = Places(parallel, max(1, parallel // 4))
        self._max_bytes = max_bytes

    def add(
        self, session: SessionContext, message: UUID, blob: bytes, attempts: int = 0, due: float = 0.0
    ) -> None:
        """Fetch a message's media, at seconds since the epoch, after so many failed attempts."""
        fetch = Fetch(session, message, blob, attempts)
        session.host.spawn(f"fetch media of {message}", self._run(fetch, due))

    async def _run(self, fetch: Fetch, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.time()))
        await fetch.session.until_connected()
        try:
            async with self._places.place(fetch.session.ref):
                fetched = None if fetch.session.closed else await self._fetch(fetch)
            if fetched is not None:
                network_id, media = fetched
                async with self._changes.turn(fetch.session, network_id):
                    await self._finish(fetch, media)
        except UNAVAILABLE as error:
            self._retry(fetch, repr(error))
        except Exception as error:  # it is a file of its own: the message must not say PENDING for ever
            logger.exception("media cannot be fetched", account_id=fetch.session.id)
            self._retry(fetch, repr(error))

    async def _fetch(self, fetch: Fetch) -> tuple[str, media_pb2.Media] | None:
        """The message's network id, and the media object; None when there is nothing to fetch, or not yet."""
        session = fetch.session
        row = await self._messages.message(session.ref.uuid, fetch.message)
        message = None if row is None else message_pb2.Message.FromString(row["content"])
        reference = None if message is None else media_of(message.content)
        if row is None or message is None or reference is None:  # deleted or taken back meanwhile
            session.host.journal.post(session.ref, FetchDone(fetch.message))
            return None
        with tracing.span(
            "mesh.node.fetch_media",
            parent=message.traceparent,
            attributes={"messaging.message.id": message.id, "mesh.attempt": fetch.attempts + 1},
        ):
            media = await self._upload(fetch, message, reference)
        return None if media is None else (row["network_id"], media)

    async def _upload(
        self, fetch: Fetch, message: message_pb2.Message, reference: content_pb2.MediaReference
    ) -> media_pb2.Media | None:
        """The media object, stored or lost; None when it is tried again later."""
        session, most = fetch.session, self._most(fetch.session)
        announced = min(max(reference.size_bytes, 0), most)  # by a stranger: it may be anything
        try:
            known = await self._known(session, message.content, reference)
            if known is not None:
                metrics.MEDIA.labels("inbound", "known").inc()
                return known
            if not most:
                return _lost(fetch, reference, media_pb2.MEDIA_FAILURE_TOO_LARGE)
            if session.link is None:
                self._retry(fetch, "no connection")
                return None
            header = _header(fetch, message.content, reference, announced)
            async with timeout(_seconds(announced, fetch.attempts)) as end:
                pieces = self._pieces(session.link.fetch(fetch.blob), most, announced, fetch.attempts, end)
                media = await self._client.upload(session.ref.tenant, header, pieces)
        except BlobUnavailable as error:
            failure = media_pb2.MEDIA_FAILURE_TOO_LARGE if error.too_large else media_pb2.MEDIA_FAILURE_GONE
            return _lost(fetch, reference, failure)
        except grpc.aio.AioRpcError as error:
            refused = from_rpc_error(error)
            if (final := _final(refused)) is not None:
                return _lost(fetch, reference, final)
            self._retry(fetch, refused.message)
        except (ConnectionEnded, MeshError, TimeoutError) as error:
            self._retry(fetch, str(error) or "too slow")
        else:
            metrics.MEDIA.labels("inbound", "stored").inc()
            return media
        return None

    def _most(self, session: SessionContext) -> int:
        """Larger files of the account are not fetched; 0: none."""
        given = session.settings.given
        return given.fetch_media_up_to_bytes if given.HasField("fetch_media_up_to_bytes") else self._max_bytes

    async def _pieces(
        self, pieces: AsyncIterator[bytes], most: int, announced: int, attempts: int, end: asyncio.Timeout
    ) -> AsyncIterator[bytes]:
        """The pieces; what comes beyond what was announced puts off the end of the time for them."""
        loop, came = asyncio.get_running_loop(), 0
        began = loop.time()
        async for piece in pieces:
            came += len(piece)
            if came > most:
                raise BlobUnavailable("more than is fetched", too_large=True)
            if came > announced:
                end.reschedule(began + _seconds(came, attempts))
            yield piece

    async def _known(
        self, session: SessionContext, content: content_pb2.Content, reference: content_pb2.MediaReference
    ) -> media_pb2.Media | None:
        """A media of the account that these bytes came as before: nothing has to be fetched then."""
        if len(reference.sha256) != 32:
            return None
        media = await self._client.look_up(session.ref.tenant, reference.sha256)
        # One that a caller uploaded is no stranger's: its time must not come to depend on what they send.
        if media is None or media.account_id != session.id or media.origin != media_pb2.MEDIA_ORIGIN_NETWORK:
            return None
        # One that was made smaller stands for what came, but not for a document, whose bytes are what counts.
        return media if media.sha256 == reference.sha256 or not content.HasField("document") else None

    async def _finish(self, fetch: Fetch, media: media_pb2.Media) -> None:
        """Store what became of the file, with the message as it is by now."""
        session = fetch.session
        row = await self._messages.message(session.ref.uuid, fetch.message)
        if session.closed or row is None:
            return
        message = message_of_row(session.id, session.people, row)
        ready = media.state == content_pb2.MEDIA_STATE_READY
        event = session.events.media(
            media, message.id, time.time_ns() // 1000, message.traceparent, ready=ready
        )
        rows: list[Row] = [FetchDone(fetch.message), event]
        if (reference := media_of(message.content)) is not None:  # else it was taken back meanwhile
            reference.state = media.state
            if ready:
                reference.media_id, reference.mime_type = media.id, media.mime_type
                reference.size_bytes, reference.sha256 = media.size_bytes, media.sha256
            rows.append(ContentUpdate(fetch.message, content_of_row(row, message)))
        if ready:
            sent = message.direction == message_pb2.DIRECTION_OUTBOUND
            rows.append(fetched_media_use(fetch.message, media.id, message.content, message.chat, sent=sent))
        try:
            done = session.host.journal.write(session.ref, *rows)
        except MeshError as error:
            self._retry(fetch, error.message)
        else:
            await asyncio.wait([done])

    def _retry(self, fetch: Fetch, problem: str) -> None:
        session = fetch.session
        if session.closed:
            return
        metrics.MEDIA.labels("inbound", "again").inc()
        logger.info("media not fetched yet", account_id=session.id, attempts=fetch.attempts, problem=problem)
        due = time.time() + _BACKOFF.after(fetch.attempts)
        session.host.journal.post(session.ref, FetchRetry(fetch.message, int(due * 1e6)))
        self.add(session, fetch.message, fetch.blob, fetch.attempts + 1, due)


_BACKOFF = Backoff(2.0, 600.0)


def _seconds(size: int, attempts: int) -> float:
    return (START_SECONDS + size / LEAST_RATE) * 2.0 ** min(attempts, MOST_DOUBLINGS)


def _header(
    fetch: Fetch, content: content_pb2.Content, reference: content_pb2.MediaReference, announced: int
) -> media_pb2.UploadHeader:
    return media_pb2.UploadHeader(
        request_id=f"fetch-{fetch.message.hex}",
        account_id=fetch.session.id,
        size_bytes=announced,
        options=media_pb2.StorageOptions(
            mime_type=reference.mime_type,
            sha256=reference.sha256,
            file_name=content.document.file_name,
            purpose=_PURPOSES.get(content.WhichOneof("kind") or "", media_pb2.MEDIA_PURPOSE_UNSPECIFIED),
        ),
        origin=media_pb2.MEDIA_ORIGIN_NETWORK,
    )


_PURPOSES = {
    "document": media_pb2.MEDIA_PURPOSE_DOCUMENT,
    "voice_note": media_pb2.MEDIA_PURPOSE_VOICE,
}


def _final(refused: MeshError) -> media_pb2.MediaFailure.ValueType | None:
    """Why a file that the media service refused is lost; None: it may be taken later."""
    if isinstance(refused, InvalidField):
        too_large = refused.field == "header.size_bytes"
        return media_pb2.MEDIA_FAILURE_TOO_LARGE if too_large else media_pb2.MEDIA_FAILURE_CORRUPT
    if refused.reason == "QUOTA_EXCEEDED":
        return media_pb2.MEDIA_FAILURE_QUOTA
    return media_pb2.MEDIA_FAILURE_CORRUPT if refused.code in _FINAL else None


_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
    }
)


def _lost(
    fetch: Fetch, reference: content_pb2.MediaReference, failure: media_pb2.MediaFailure.ValueType
) -> media_pb2.Media:
    metrics.MEDIA.labels("inbound", "lost").inc()
    return media_pb2.Media(
        tenant_id=fetch.session.events.tenant_id,
        account_id=fetch.session.id,
        state=content_pb2.MEDIA_STATE_FAILED,
        failure=failure,
        mime_type=reference.mime_type,
        size_bytes=reference.size_bytes,
        origin=media_pb2.MEDIA_ORIGIN_NETWORK,
    )
