"""Media that came with messages: fetched from the network and stored with the media service, until it is
done.

The mark to fetch is a row that was stored with the message, so it survives whatever happens to this process.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import grpc
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff
from mesh_core.database import UNAVAILABLE
from mesh_core.errors import MeshError
from mesh_core.ids import Prefix, encode
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded
from mesh_session_node.journal import ContentUpdate, FetchDone, FetchRetry
from mesh_session_node.store.media import MediaClient, media_of
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetch:
    """One message's media to fetch."""

    session: SessionContext
    message: UUID
    blob: bytes
    attempts: int


class MediaFetcher:
    """Fetches at most `parallel` files at a time, none above `max_bytes`; one for all accounts."""

    def __init__(self, client: MediaClient, messages: MessageStore, parallel: int, max_bytes: int) -> None:
        self._client = client
        self._messages = messages
        self._room = asyncio.Semaphore(parallel)
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
        async with self._room:
            if fetch.session.closed:
                return
            try:
                row = await self._messages.message(fetch.session.ref.uuid, fetch.message)
            except UNAVAILABLE as error:
                self._retry(fetch, repr(error))
                return
            if row is None:
                fetch.session.host.journal.post(fetch.session.ref, FetchDone(fetch.message))
                return
            await self._fetch(fetch, message_pb2.Message.FromString(row["content"]))

    async def _fetch(self, fetch: Fetch, message: message_pb2.Message) -> None:
        session = fetch.session
        reference = media_of(message.content)
        if reference is None or session.link is None:
            self._retry(fetch, "no connection")
            return
        if reference.size > self._max_bytes:
            self._lost(fetch, message, reference, media_pb2.MEDIA_FAILURE_TOO_LARGE)
            return
        header = media_pb2.UploadHeader(
            request_id=f"fetch-{fetch.message.hex}",
            size=reference.size,
            mime_type=reference.mime_type,
            sha256=reference.sha256,
            file_name=message.content.document.file_name,
            origin=media_pb2.MEDIA_ORIGIN_NETWORK,
            keep_original=True,
        )
        try:
            media = await self._client.upload(session.ref.tenant, header, session.link.fetch(fetch.blob))
        except BlobUnavailable as error:
            failure = media_pb2.MEDIA_FAILURE_TOO_LARGE if error.too_large else media_pb2.MEDIA_FAILURE_GONE
            self._lost(fetch, message, reference, failure)
        except grpc.aio.AioRpcError as error:
            known = from_rpc_error(error)
            if known.code in _FINAL:
                failure = (
                    media_pb2.MEDIA_FAILURE_QUOTA
                    if known.reason == "QUOTA_EXCEEDED"
                    else media_pb2.MEDIA_FAILURE_CORRUPT
                )
                self._lost(fetch, message, reference, failure)
            else:
                self._retry(fetch, known.message)
        except (ConnectionEnded, MeshError, TimeoutError) as error:
            self._retry(fetch, str(error))
        else:
            self._stored(fetch, message, reference, media)

    def _stored(
        self,
        fetch: Fetch,
        message: message_pb2.Message,
        reference: content_pb2.MediaReference,
        media: media_pb2.Media,
    ) -> None:
        metrics.MEDIA.labels("inbound", "stored").inc()
        reference.media_id = media.id
        reference.size, reference.mime_type, reference.sha256 = media.size, media.mime_type, media.sha256
        reference.state = media.state
        self._finish(fetch, message, media, ready=True)

    def _lost(
        self,
        fetch: Fetch,
        message: message_pb2.Message,
        reference: content_pb2.MediaReference,
        failure: media_pb2.MediaFailure.ValueType,
    ) -> None:
        metrics.MEDIA.labels("inbound", "lost").inc()
        reference.state = content_pb2.MEDIA_STATE_FAILED
        media = media_pb2.Media(
            tenant_id=fetch.session.events.tenant_id,
            state=content_pb2.MEDIA_STATE_FAILED,
            failure=failure,
            mime_type=reference.mime_type,
            size=reference.size,
            origin=media_pb2.MEDIA_ORIGIN_NETWORK,
        )
        self._finish(fetch, message, media, ready=False)

    def _finish(
        self, fetch: Fetch, message: message_pb2.Message, media: media_pb2.Media, *, ready: bool
    ) -> None:
        session = fetch.session
        if session.closed:
            return
        event = session.events.media(
            media,
            encode(Prefix.MESSAGE, fetch.message),
            time.time_ns() // 1000,
            message.traceparent,
            ready=ready,
        )
        session.host.journal.post(
            session.ref,
            ContentUpdate(fetch.message, message.SerializeToString()),
            FetchDone(fetch.message),
            event,
        )

    def _retry(self, fetch: Fetch, problem: str) -> None:
        session = fetch.session
        if session.closed:
            return
        metrics.MEDIA.labels("inbound", "again").inc()
        logger.info("media not fetched yet", account_id=session.id, attempts=fetch.attempts, problem=problem)
        due = time.time() + _BACKOFF.after(fetch.attempts)
        session.host.journal.post(session.ref, FetchRetry(fetch.message, int(due * 1e6)))
        self.add(session, fetch.message, fetch.blob, fetch.attempts + 1, due)


_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
    }
)
_BACKOFF = Backoff(2.0, 600.0)
